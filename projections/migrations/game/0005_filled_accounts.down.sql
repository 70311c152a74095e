DROP TABLE filled_accounts;
