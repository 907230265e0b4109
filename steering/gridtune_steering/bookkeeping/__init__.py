"""The database: the only truth. Tables, transactions, and one module of queries for each noun."""
