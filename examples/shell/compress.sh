#!/bin/sh
# How small does xz make a table of numbers? The settings come as variables; the result goes to output.json.
set -e
awk 'BEGIN {
    srand(42)
    for (row = 0; row < 4000; row++)
        printf "%d,%.3f,%.3f,%s\n", row * 60, sin(row / 50) + rand() / 100, 20 + 5 * cos(row / 300), row % 7 ? "ok" : "late"
}' >table.csv

filter="preset=6,lc=$GRIDTUNE_PARAM_LC,lp=$GRIDTUNE_PARAM_LP,pb=$GRIDTUNE_PARAM_PB"
filter="$filter,nice=$GRIDTUNE_PARAM_NICE,mf=$GRIDTUNE_PARAM_MATCH_FINDER"
size=$(xz --stdout --format=raw --lzma2="$filter" table.csv | wc -c)

echo "{\"bytes\": $size}" >"$GRIDTUNE_RESULT_FILE"
