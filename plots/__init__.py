"""From the rows of results/runs to the tables and figures of a paper; each is a pure function of the rows."""
