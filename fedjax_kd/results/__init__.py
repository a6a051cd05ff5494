"""Reading folders of results: frames out of files, for users, for reports and for running grids."""
