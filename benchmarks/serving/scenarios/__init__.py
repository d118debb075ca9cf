"""One file for each question that is put to the servers; each has `NAME` and `run(context) -> Result`."""
