"""Who may do what: for now the local administrator of the data folder."""
