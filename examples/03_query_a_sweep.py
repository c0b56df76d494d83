"""Ask a sweep questions in SQL: its folder is one data set for DuckDB, without any code of jetbed.

jetbed sweep examples/study.toml --out runs/study
python examples/03_query_a_sweep.py runs/study
"""

import sys

import duckdb

WAITING = """
SELECT policy, profile, avg(waiting_s) AS waiting_s,
       sum(waiting_s) / sum(download_s + compute_s + upload_s + waiting_s) AS idle
FROM (
    SELECT *, regexp_extract(filename, '.*/run=([^/]+)/', 1) AS run
    FROM read_parquet('{sweep}/run=*/devices/part-*.parquet', filename = true, hive_partitioning = false)
) AS devices
JOIN read_parquet('{sweep}/index.parquet', hive_partitioning = false) USING (run)
WHERE devices.status = 'ok'
GROUP BY policy, profile ORDER BY policy, profile
"""

COST = """
WITH spent AS (
    SELECT regexp_extract(filename, '.*/run=([^/]+)/', 1) AS run, accuracy,
           sum(download_bytes + upload_bytes) OVER (PARTITION BY run ORDER BY round_index) AS n_bytes
    FROM read_parquet('{sweep}/run=*/rounds/part-*.parquet', filename = true, hive_partitioning = false)
)
SELECT policy, seed, max(accuracy) AS best_accuracy, max(n_bytes) / 1e6 AS traffic_mb
FROM spent JOIN read_parquet('{sweep}/index.parquet', hive_partitioning = false) USING (run)
GROUP BY policy, seed ORDER BY policy, seed
"""


def main(sweep: str) -> None:
    for question, query in (("Who waits for how long?", WAITING), ("What did it cost?", COST)):
        print(question)
        print(duckdb.sql(query.format(sweep=sweep)))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/study")
