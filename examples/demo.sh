#!/bin/sh
# What `make demo` shows: numbers, a plan, and real networks initialised, predicted and proved. Writes into out/.
set -eu
mkdir -p out
run() {
    printf '\n$ %s\n\n' "$*"
    "$@"
}
run stepzero gain gelu
run stepzero fans 64x32x3x3 --transposed --stride 2
run stepzero init torchvision:vgg16 --input 4x3x224x224 --seed 0 -o out/vgg16.safetensors --force
run stepzero init torchvision:resnet18 --input 8x3x128x128 --seed 0 -o out/resnet18.safetensors --force
run stepzero plan torchvision:resnet50 --input 1x3x224x224 -o out/resnet50.json --force
run python examples/deep_plain_stack.py
