-- Moments are milliseconds since 1970, UTC, by the server's clock.

-- What devices reported. Anyone who can reach the port can write here: seen.rs and prune.rs bound it.
CREATE TABLE devices (
    serial     TEXT PRIMARY KEY,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    address    TEXT NOT NULL,
    boots      INTEGER NOT NULL DEFAULT 0,
    model      TEXT,
    bootloader TEXT,
    host_key   TEXT,
    addresses  TEXT NOT NULL DEFAULT '[]'
) STRICT, WITHOUT ROWID;
CREATE INDEX devices_by_silence ON devices (last_seen);

CREATE TABLE boots (
    id         INTEGER PRIMARY KEY,
    serial     TEXT NOT NULL REFERENCES devices ON DELETE CASCADE,
    boot_id    TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    sequence   INTEGER NOT NULL,
    step       TEXT NOT NULL,
    state      TEXT NOT NULL,
    error      TEXT,
    failures   INTEGER NOT NULL DEFAULT 0,
    bytes      INTEGER NOT NULL DEFAULT 0,
    UNIQUE (serial, boot_id)
) STRICT;

CREATE TABLE events (
    id       INTEGER PRIMARY KEY,
    boot     INTEGER NOT NULL REFERENCES boots ON DELETE CASCADE,
    received INTEGER NOT NULL,
    address  TEXT NOT NULL,
    event    TEXT NOT NULL
) STRICT;
CREATE INDEX events_of_boot ON events (boot);

-- When a boot's steps began and ended, in milliseconds since its kernel started.
CREATE TABLE timings (
    boot    INTEGER NOT NULL REFERENCES boots ON DELETE CASCADE,
    step    TEXT NOT NULL,
    started INTEGER NOT NULL,
    latest  INTEGER NOT NULL,
    ended   INTEGER,
    state   TEXT NOT NULL,
    PRIMARY KEY (boot, step)
) STRICT, WITHOUT ROWID;

-- Bootloaders that asked for files.
CREATE TABLE bootloaders (
    address    TEXT NOT NULL,
    version    TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    PRIMARY KEY (address, version)
) STRICT, WITHOUT ROWID;

-- What people decided.
CREATE TABLE people (
    name     TEXT PRIMARY KEY COLLATE NOCASE,
    role     TEXT NOT NULL CHECK (role IN ('view', 'operate')),
    password TEXT NOT NULL,
    created  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    name      TEXT PRIMARY KEY COLLATE NOCASE,
    role      TEXT NOT NULL CHECK (role IN ('view', 'operate')),
    hash      BLOB NOT NULL UNIQUE,
    created   INTEGER NOT NULL,
    last_used INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    hash      BLOB PRIMARY KEY,
    person    TEXT NOT NULL REFERENCES people ON DELETE CASCADE,
    csrf      TEXT NOT NULL,
    created   INTEGER NOT NULL,
    last_used INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row for what counts until changed ('standing') and one for the next boot ('once').
CREATE TABLE orders (
    serial     TEXT NOT NULL,
    slot       TEXT NOT NULL CHECK (slot IN ('standing', 'once')),
    content    TEXT NOT NULL,
    who        TEXT NOT NULL,
    made       INTEGER NOT NULL,
    after_boot TEXT,
    used_by    TEXT,
    PRIMARY KEY (serial, slot)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    who     TEXT NOT NULL,
    address TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL
) STRICT;
