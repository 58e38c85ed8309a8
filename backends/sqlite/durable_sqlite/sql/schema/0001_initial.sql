-- The first schema. Times are hub microseconds since the epoch (…_us); payloads are JSON text, kept as bytes (BLOB).
--
-- Everything that belongs to an instance refers to it by a small integer, its key. Keys grow, so what is active together lies together: a commit of 500
-- turns on 20,000 instances dirties a tenth of the pages that it does when tables are clustered by text ids (measured: 17 against 78 µs a turn).
-- Each index costs about 1 µs per row written, so there is none without a query in queries.sql that needs it.
-- Conditions of indexes and generated columns are spelt with OR: for an IN list of three, SQLite sets up a temporary table (75 µs, in every statement that writes).

-- The hub's counters, one row. last_key: the last instance key given out; keys are never reused.
CREATE TABLE hub (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  epoch    INTEGER NOT NULL,
  position INTEGER NOT NULL,
  now_us   INTEGER NOT NULL,
  last_key INTEGER NOT NULL
);
INSERT INTO hub VALUES (1, 0, 0, 0, 0);

-- One row an instance. What commits rewrite is here; large and rarely read parts are in "detail".
--
-- first_due_us and first_control_us are the earliest times in the instance's inbox (of all messages; of control messages). They are recomputed from the inbox
-- in every transaction that touches it. wake_us and control_us follow from the row and are computed by SQLite itself: from when the instance may be
-- claimed by a worker that knows its name (or, by a control message, by any), leases apart; NULL if only a change of the row can make it so.
CREATE TABLE instance (
  key              INTEGER PRIMARY KEY,
  id               TEXT    NOT NULL UNIQUE,
  execution        TEXT    NOT NULL,
  name             TEXT    NOT NULL,
  status           TEXT    NOT NULL,
  created_us       INTEGER NOT NULL,
  updated_us       INTEGER NOT NULL,
  parent           TEXT,
  parent_execution TEXT,
  epoch            INTEGER NOT NULL,
  version          INTEGER NOT NULL,
  history_length   INTEGER NOT NULL,
  holder           TEXT,
  claimed          INTEGER NOT NULL,
  hold_until_us    INTEGER NOT NULL,
  not_before_us    INTEGER NOT NULL,
  attempt          INTEGER NOT NULL,
  parked           INTEGER NOT NULL,
  problem          TEXT,
  last_commit      TEXT    NOT NULL,
  first_due_us     INTEGER,
  first_control_us INTEGER,
  queue            TEXT    GENERATED ALWAYS AS (CASE WHEN substr(id, 1, 1) = '@' THEN '@' || name ELSE name END) VIRTUAL,
  wake_us          INTEGER GENERATED ALWAYS AS (
    CASE WHEN claimed OR parked OR (status <> 'PENDING' AND status <> 'RUNNING') THEN NULL
         WHEN history_length = 0 AND substr(id, 1, 1) <> '@' -- its start is still to come
           THEN max(min(updated_us, coalesce(first_due_us, updated_us)), not_before_us)
         ELSE max(first_due_us, not_before_us) END
  ) VIRTUAL,
  control_us       INTEGER GENERATED ALWAYS AS (
    CASE WHEN claimed OR status = 'COMPLETED' OR status = 'FAILED' OR status = 'TERMINATED' THEN NULL ELSE first_control_us END
  ) VIRTUAL
);
CREATE INDEX instance_by_age ON instance (created_us, id);
CREATE INDEX instance_by_parent ON instance (parent) WHERE parent IS NOT NULL;
CREATE INDEX instance_by_holder ON instance (holder) WHERE holder IS NOT NULL;
CREATE INDEX instance_to_wake ON instance (queue, wake_us) WHERE wake_us IS NOT NULL;
CREATE INDEX instance_rare ON instance (created_us, id) WHERE status = 'FAILED' OR status = 'TERMINATED' OR status = 'SUSPENDED';
CREATE INDEX instance_to_control ON instance (control_us) WHERE control_us IS NOT NULL;

-- The rest of an instance: start, custom_status, output, failure, snapshot, obituaries.
CREATE TABLE detail (
  instance INTEGER NOT NULL,
  kind     TEXT    NOT NULL,
  data     BLOB    NOT NULL,
  PRIMARY KEY (instance, kind)
) WITHOUT ROWID;

-- One row a turn: its events, first … first + count - 1, as one JSON array. Only the current execution's are kept.
-- Appended at the end whatever the instance; the narrow index finds them again.
CREATE TABLE history (
  key      INTEGER PRIMARY KEY,
  instance INTEGER NOT NULL,
  first    INTEGER NOT NULL,
  count    INTEGER NOT NULL,
  payload  BLOB    NOT NULL
);
CREATE UNIQUE INDEX history_by_instance ON history (instance, first);

-- Messages that are neither consumed nor dropped, timers included. position: the hub-wide order of arrival; visible_us: due, or arrived if that was later.
CREATE TABLE inbox (
  position   INTEGER PRIMARY KEY,
  target     INTEGER NOT NULL,
  visible_us INTEGER NOT NULL,
  id         TEXT    NOT NULL,
  execution  TEXT,
  sender     TEXT    NOT NULL,
  due_us     INTEGER NOT NULL,
  control    INTEGER NOT NULL,
  creates    TEXT,
  payload    BLOB    NOT NULL
);
CREATE UNIQUE INDEX inbox_by_id ON inbox (target, id);
CREATE INDEX inbox_by_time ON inbox (target, visible_us);
CREATE INDEX inbox_control ON inbox (target, visible_us) WHERE control;

-- Activity tasks that have not been completed; worker: who runs it.
CREATE TABLE task (
  position   INTEGER PRIMARY KEY,
  id         TEXT    NOT NULL UNIQUE,
  instance   INTEGER NOT NULL,
  execution  TEXT    NOT NULL,
  name       TEXT    NOT NULL,
  created_us INTEGER NOT NULL,
  worker     TEXT,
  attempt    INTEGER NOT NULL,
  cancelled  INTEGER NOT NULL,
  payload    BLOB    NOT NULL
);
CREATE INDEX task_by_instance ON task (instance);
CREATE INDEX task_open ON task (name, position) WHERE worker IS NULL;
CREATE INDEX task_cancelled ON task (worker) WHERE cancelled;

-- Ids of messages and creates by clients, against repeated submissions, in the order in which they expire.
CREATE TABLE seen (
  number   INTEGER PRIMARY KEY,
  id       TEXT    NOT NULL UNIQUE,
  until_us INTEGER NOT NULL
);

-- Live incarnations. claim_id, turns and tasks (JSON arrays of ids) are its last claim, so that a repeated one returns the same items.
CREATE TABLE worker (
  id       TEXT PRIMARY KEY,
  until_us INTEGER NOT NULL,
  claim_id TEXT    NOT NULL,
  turns    TEXT    NOT NULL,
  tasks    TEXT    NOT NULL
) WITHOUT ROWID;

-- ── for people: `sqlite3 FILE 'SELECT * FROM instances'` ─────────────────────────────────────────────────────────

CREATE VIEW instances AS
SELECT i.id, i.name, i.status,
       strftime('%Y-%m-%d %H:%M:%f', i.created_us / 1e6, 'unixepoch') AS created,
       strftime('%Y-%m-%d %H:%M:%f', i.updated_us / 1e6, 'unixepoch') AS updated,
       i.parent, i.version, i.history_length, i.holder, i.claimed, i.attempt, i.parked, i.problem,
       (SELECT count(*) FROM inbox AS m WHERE m.target = i.key) AS messages,
       (SELECT count(*) FROM task AS t WHERE t.instance = i.key) AS tasks,
       (SELECT CAST(data AS TEXT) FROM detail AS d WHERE d.instance = i.key AND d.kind = 'custom_status') AS custom_status,
       (SELECT CAST(data AS TEXT) FROM detail AS d WHERE d.instance = i.key AND d.kind = 'output') AS output,
       (SELECT CAST(data AS TEXT) FROM detail AS d WHERE d.instance = i.key AND d.kind = 'failure') AS failure,
       i.execution
FROM instance AS i;

-- One row an event.
CREATE VIEW events AS
SELECT i.id AS instance, h.first + e.key AS number, e.value AS event
FROM history AS h
JOIN instance AS i ON i.key = h.instance
JOIN json_each(CASE WHEN json_valid(CAST(h.payload AS TEXT)) THEN CAST(h.payload AS TEXT) ELSE json_array('not JSON: ' || hex(h.payload)) END) AS e
ORDER BY i.key, h.first, e.key;

CREATE VIEW messages AS
SELECT i.id AS target, m.id, m.sender, m.execution, m.control,
       strftime('%Y-%m-%d %H:%M:%f', m.visible_us / 1e6, 'unixepoch') AS visible,
       CAST(m.payload AS TEXT) AS payload, m.position
FROM inbox AS m LEFT JOIN instance AS i ON i.key = m.target;

CREATE VIEW tasks AS
SELECT t.id, t.name, i.id AS instance, t.worker, t.attempt, t.cancelled,
       strftime('%Y-%m-%d %H:%M:%f', t.created_us / 1e6, 'unixepoch') AS created,
       CAST(t.payload AS TEXT) AS payload, t.position
FROM task AS t LEFT JOIN instance AS i ON i.key = t.instance;

CREATE VIEW workers AS
SELECT w.id, strftime('%Y-%m-%d %H:%M:%f', w.until_us / 1e6, 'unixepoch') AS alive_until,
       (SELECT count(*) FROM instance AS i WHERE i.holder = w.id AND i.claimed) AS turns,
       (SELECT count(*) FROM task AS t WHERE t.worker = w.id) AS tasks
FROM worker AS w;
