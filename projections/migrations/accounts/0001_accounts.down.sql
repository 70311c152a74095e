-- Loses what is nowhere else: only the backup has it afterwards.
DROP TABLE simulin_names;
DROP TABLE sessions;
DROP TABLE users;
DROP TABLE changes;
DROP TABLE identity;
