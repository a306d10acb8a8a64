"""What a run leaves behind for people: report.html, receipt.json, and files written whole or not at all."""
