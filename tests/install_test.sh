#!/usr/bin/env bash
# What `cmake --install` puts where, and that the installed program works from there: its model is found beside it.
# usage: install_test.sh BUILD_FOLDER
set -eu
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake --install "$1" --prefix "$prefix" >/dev/null
for file in bin/samba-lm share/man/man1/samba-lm.1 share/samba-lm/samba-47m-q4_k_m.gguf \
            share/samba-lm/prompts/templates/samba.json share/doc/samba-lm/{LICENSE,README.md,architecture.md}; do
    [ -s "$prefix/$file" ] || { echo "missing: $file"; exit 1; }
done
unset SAMBA_LM_MODEL SAMBA_LM_CONFIG
cd /
found=$("$prefix/bin/samba-lm" inspect --json </dev/null | head -c 4000)
case $found in
    *"$prefix/bin/../share/samba-lm/"* | *"$prefix/share/samba-lm/"*) ;;
    *) echo "the installed program took another model: $found" && exit 1 ;;
esac
