-- Loses what is nowhere else: nobody can log in afterwards. Only the backup has it.
DROP TRIGGER simulin_names_updated;
CREATE TRIGGER simulin_names_updated AFTER UPDATE ON simulin_names BEGIN
  INSERT INTO changes (kind, id) VALUES ('simulin_name', OLD.simulin_id), ('simulin_name', NEW.simulin_id);
END;
DROP TRIGGER sessions_updated;
CREATE TRIGGER sessions_updated AFTER UPDATE ON sessions BEGIN
  INSERT INTO changes (kind, id) VALUES ('session', OLD.id), ('session', NEW.id);
END;
DROP TRIGGER users_updated;
CREATE TRIGGER users_updated AFTER UPDATE ON users BEGIN
  INSERT INTO changes (kind, id) VALUES ('user', OLD.id), ('user', NEW.id);
END;
DROP TABLE swept_changes;
ALTER TABLE simulin_names DROP COLUMN user_id;
DROP TABLE given_up_users;
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
