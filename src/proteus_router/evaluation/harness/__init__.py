"""Data sets x routers x targets x seeds -> one table of results; a killed run goes on."""
