"""What the tests build: tiny models, samples of files, runs. No tests stand here."""
