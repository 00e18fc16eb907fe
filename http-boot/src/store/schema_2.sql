-- What was found to be wrong at the site. `cause` is JSON.
CREATE TABLE findings (
    cause      TEXT PRIMARY KEY,
    text       TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    count      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
