"""What the program costs: seconds, bytes, steps. Each script prints one Markdown section; see README.md here."""
