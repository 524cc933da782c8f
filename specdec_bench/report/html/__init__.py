"""report.html: one page of a run, a sweep or any set of archives."""
