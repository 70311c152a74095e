-- Loses what is nowhere else: nobody can log in afterwards. Only the backup has it.
ALTER TABLE simulin_names DROP COLUMN user_id;
DROP TABLE served_ledger;
DROP TABLE secrets;
DROP TABLE erasures;
DROP TABLE registrations;
DROP TABLE failed_logins;
DROP TABLE reset_links;
DROP TABLE ended_sessions;
DROP TABLE session_numbers;
DROP TABLE locked_users;
DROP TABLE pending_users;
DROP TABLE credentials;
