-- Loses what is nowhere else: only the backup has it afterwards.
DROP TABLE token_users;
DROP TABLE service_tokens;
DROP TABLE pauses;
ALTER TABLE served_ledger DROP COLUMN nonce;
