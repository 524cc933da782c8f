"""`python -m specdec_bench` takes what run.py takes."""

from specdec_bench.cli import main

if __name__ == "__main__":
    main()
