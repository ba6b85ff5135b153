-- How many transactions have written something, and the state of the last recovery.
INSERT INTO osb_meta (key, value) VALUES ('changes', '0') ON CONFLICT (key) DO NOTHING;
INSERT INTO osb_meta (key, value) VALUES ('recovery', '{}') ON CONFLICT (key) DO NOTHING;
