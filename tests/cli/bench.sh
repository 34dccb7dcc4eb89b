# Speed: one object a test, with the limits of the machine measured in the same run.
need_model
lm bench "${tiny[@]}" -p 16,0 -n 4 -d 0,8 -b 1,2 -r 2 -o json
expect_status 0
expect_silent_err
expect_equal "$(grep -c '^{"commit":' out)" 6
expect_out '"n_prompt":16,"n_gen":0,"n_depth":8,"n_batch":1,"tokens_per_s":\{"mean":[0-9.]+,"sd":[0-9.]+,"median":[0-9.]+,"samples":\[[0-9.]+,[0-9.]+\]\},"gb_per_s":null,"limit_gb_per_s":null,"gflop_per_s":[0-9.e-]+,"limit_gflop_per_s":[0-9.]+\}'
expect_out '"n_prompt":0,"n_gen":4,"n_depth":0,"n_batch":2,.*"gb_per_s":[0-9.e-]+,"limit_gb_per_s":[0-9.]+,"gflop_per_s":null'
lm bench "${tiny[@]}" -p 0 -n 4 -r 1 -o csv
expect_out '^commit,cpu,device,model,type,n_prompt,n_gen,n_depth,n_batch,tokens_per_s_mean,'
expect_equal "$(wc -l <out)" 2
lm bench "${tiny[@]}" -p 8 -n 0 -r 1 --no-limits -o json
expect_out '"limit_gflop_per_s":null'
lm bench "${tiny[@]}" -p 8 -n 0 -r 1
expect_out '^\| pp8 '
lm bench "${tiny[@]}" -p 0 -n 0
expect_error 2 "nothing to measure"
lm bench "${tiny[@]}" -p 1,x
expect_error 2 "--n-prompt: expected a whole number"
