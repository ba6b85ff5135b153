-- Sealed registry credentials of the records that still need them. They are not in the record, so that no copy of a record has them.
CREATE TABLE osb_secret (
    id     TEXT PRIMARY KEY,
    sealed BLOB NOT NULL
) WITHOUT ROWID;
