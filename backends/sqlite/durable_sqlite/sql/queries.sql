-- Every query of the store. "-- name:" and a sentence head each; queries.py explains /*rows*/.
-- Queries that load return one text, a JSON array of rows (rows.py says why). Bytes are hex; NULL stands for what is too large to come along.

-- ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: count_tables
-- Is there anything in a file that does not say whose it is?
SELECT count(*) FROM sqlite_schema;

-- ── loading what a batch of commands needs ───────────────────────────────────────────────────────────────────────

-- name: load_hub
-- The schema's version (another process may have migrated), the counters, and all workers without their last claims.
SELECT json_array(
  (SELECT user_version FROM pragma_user_version), epoch, position, now_us, last_key,
  json((SELECT json_group_array(json_array(id, until_us)) FROM worker))
) FROM hub;

-- name: load_batch
-- What load_hub, load_instances and load_tasks return, for ids of both kinds mixed: one statement, since each is a chance to lose the GIL for 5 ms.
WITH wanted (id) AS (VALUES /*rows*/ (?))
SELECT
  json_array(
    (SELECT user_version FROM pragma_user_version), epoch, position, now_us, last_key,
    json((SELECT json_group_array(json_array(id, until_us)) FROM worker))
  ),
  (
    SELECT json_group_array(json_array(
      key, first_due_us,
      id, execution, name, status, created_us, updated_us, parent, parent_execution, epoch, version, history_length,
      holder, claimed, hold_until_us, not_before_us, attempt, parked, problem, last_commit
    )) FROM instance WHERE id IN (SELECT id FROM wanted)
  ),
  (
    SELECT json_group_array(json_array(
      t.id, i.id, t.execution, t.name, t.position, t.created_us, t.worker, t.attempt, t.cancelled, ''
    )) FROM task AS t JOIN instance AS i ON i.key = t.instance WHERE t.id IN (SELECT id FROM wanted)
  )
FROM hub;

-- name: load_worker
-- A worker with its last claim.
SELECT until_us, claim_id, turns, tasks FROM worker WHERE id = ?;

-- name: load_instances
-- Instances by id: key, first due message, then the columns that rows.instance_row takes.
SELECT json_group_array(json_array(
  key, first_due_us,
  id, execution, name, status, created_us, updated_us, parent, parent_execution, epoch, version, history_length,
  holder, claimed, hold_until_us, not_before_us, attempt, parked, problem, last_commit
)) FROM instance WHERE id IN (/*rows*/ ?);

-- name: load_tasks
-- Tasks by id, payloads left out: settling, completing and cancelling do not read them.
SELECT json_group_array(json_array(
  t.id, i.id, t.execution, t.name, t.position, t.created_us, t.worker, t.attempt, t.cancelled, ''
)) FROM task AS t JOIN instance AS i ON i.key = t.instance WHERE t.id IN (/*rows*/ ?);

-- name: load_tasks_with_payload
-- Tasks by id, to be handed out.
SELECT json_group_array(json_array(
  t.id, i.id, t.execution, t.name, t.position, t.created_us, t.worker, t.attempt, t.cancelled,
  CASE WHEN length(t.payload) <= 65536 THEN hex(t.payload) END
)) FROM task AS t JOIN instance AS i ON i.key = t.instance WHERE t.id IN (/*rows*/ ?);

-- name: load_large_tasks
-- The payloads that load_tasks_with_payload left out.
SELECT id, payload FROM task WHERE id IN (/*rows*/ ?);

-- name: load_cancelled_tasks
-- Ids of tasks that a worker runs although they were cancelled.
SELECT json_group_array(id) FROM task WHERE worker = ? AND cancelled;

-- name: load_messages
-- Single messages by (target's key, id). A large payload is replaced by its size.
SELECT json_group_array(json_array(
  m.position, i.id, m.visible_us, m.id, m.execution, m.sender, m.due_us, m.control, m.creates,
  CASE WHEN length(m.payload) <= 4096 THEN hex(m.payload) ELSE length(m.payload) END
))
FROM (VALUES /*rows*/ (?, ?)) AS wanted
JOIN inbox AS m ON m.target = wanted.column1 AND m.id = wanted.column2
JOIN instance AS i ON i.key = m.target;

-- name: load_inboxes
-- Of the inbox of each target (key) the first visible messages in order, and all visible control messages: (now, how many, now).
SELECT json_group_array(json_array(
  m.position, i.id, m.visible_us, m.id, m.execution, m.sender, m.due_us, m.control, m.creates,
  CASE WHEN length(m.payload) <= 4096 THEN hex(m.payload) ELSE length(m.payload) END
))
FROM (
  WITH wanted (target) AS (VALUES /*rows*/ (?))
  SELECT f.position
  FROM wanted JOIN inbox AS f ON f.position IN (
    SELECT position FROM inbox WHERE target = wanted.target AND visible_us <= ? ORDER BY visible_us, position LIMIT ?
  )
  UNION
  SELECT c.position FROM wanted JOIN inbox AS c ON c.target = wanted.target AND c.control AND c.visible_us <= ?
) AS chosen
JOIN inbox AS m ON m.position = chosen.position
JOIN instance AS i ON i.key = m.target;

-- name: load_payloads
-- Payloads of messages by position.
SELECT position, payload FROM inbox WHERE position IN (/*rows*/ ?);

-- name: load_details
-- Details by (instance's key, kind).
SELECT json_group_array(json_array(d.instance, i.id, d.kind, CASE WHEN length(d.data) <= 65536 THEN hex(d.data) END))
FROM (VALUES /*rows*/ (?, ?)) AS wanted
JOIN detail AS d ON d.instance = wanted.column1 AND d.kind = wanted.column2
JOIN instance AS i ON i.key = d.instance;

-- name: load_large_details
-- The details that load_details left out.
SELECT i.id, d.kind, d.data
FROM (VALUES /*rows*/ (?, ?)) AS wanted
JOIN detail AS d ON d.instance = wanted.column1 AND d.kind = wanted.column2
JOIN instance AS i ON i.key = d.instance;

-- name: load_seen
-- Remembered ids and when each may be forgotten.
SELECT json_group_array(json_array(id, until_us)) FROM seen WHERE id IN (/*rows*/ ?);

-- ── writing: leases of the dead ──────────────────────────────────────────────────────────────────────────────────

-- name: free_instances_of
-- Nobody holds what these workers held; epochs stay, so that what they still commit is accepted until somebody claims.
UPDATE instance SET holder = NULL, claimed = 0, hold_until_us = 0 WHERE holder IN (/*rows*/ ?);

-- name: drop_cancelled_tasks_of
-- Cancelled tasks waited for the heartbeat of the worker that ran them; there will be none.
DELETE FROM task WHERE worker IN (/*rows*/ ?) AND cancelled;

-- name: free_tasks_of
-- What these workers ran is to be run again. (A scan of the open tasks: deaths are rare, an index would cost every task.)
UPDATE task SET worker = NULL WHERE worker IN (/*rows*/ ?);

-- ── writing: what was dropped without being loaded ───────────────────────────────────────────────────────────────

-- name: drop_inboxes
-- All messages of (target's key, NULL), or those scoped to (target's key, execution).
DELETE FROM inbox WHERE position IN (
  SELECT m.position FROM (VALUES /*rows*/ (?, ?)) AS gone
  JOIN inbox AS m ON m.target = gone.column1 AND (gone.column2 IS NULL OR m.execution = gone.column2)
);

-- name: drop_tasks_of
-- All tasks of (instance's key, NULL), or those of (instance's key, execution).
DELETE FROM task WHERE position IN (
  SELECT t.position FROM (VALUES /*rows*/ (?, ?)) AS gone
  JOIN task AS t ON t.instance = gone.column1 AND (gone.column2 IS NULL OR t.execution = gone.column2)
);

-- name: drop_histories
-- The histories of instances by key.
DELETE FROM history WHERE instance IN (/*rows*/ ?);

-- name: drop_instances
-- Instances by key.
DELETE FROM instance WHERE key IN (/*rows*/ ?);

-- name: drop_details_of
-- All details of instances by key.
DELETE FROM detail WHERE instance IN (/*rows*/ ?);

-- ── writing: single rows ─────────────────────────────────────────────────────────────────────────────────────────

-- name: put_instances
-- New instances, and what a turn may change on those that are there. Creation time, name and parent never change under a key.
INSERT INTO instance (
  key, id, execution, name, status, created_us, updated_us, parent, parent_execution, epoch, version, history_length,
  holder, claimed, hold_until_us, not_before_us, attempt, parked, problem, last_commit
)
SELECT * FROM (VALUES /*rows*/ (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) WHERE column1 IS NOT NULL
ON CONFLICT (key) DO UPDATE SET
  execution = excluded.execution, status = excluded.status, updated_us = excluded.updated_us, epoch = excluded.epoch, version = excluded.version,
  history_length = excluded.history_length, holder = excluded.holder, claimed = excluded.claimed, hold_until_us = excluded.hold_until_us,
  not_before_us = excluded.not_before_us, attempt = excluded.attempt, parked = excluded.parked, problem = excluded.problem,
  last_commit = excluded.last_commit;

-- name: put_details
-- Details by (instance's key, kind).
INSERT OR REPLACE INTO detail (instance, kind, data)
SELECT * FROM (VALUES /*rows*/ (?, ?, ?)) WHERE column1 IS NOT NULL;

-- name: drop_details
-- Single details.
DELETE FROM detail WHERE (instance, kind) IN (SELECT * FROM (VALUES /*rows*/ (?, ?)));

-- name: put_messages
-- Messages; one of the same target and id is replaced.
INSERT OR REPLACE INTO inbox (position, target, visible_us, id, execution, sender, due_us, control, creates, payload)
SELECT * FROM (VALUES /*rows*/ (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) WHERE column1 IS NOT NULL;

-- name: drop_messages
-- Messages by (target's key, id).
DELETE FROM inbox WHERE position IN (
  SELECT m.position FROM (VALUES /*rows*/ (?, ?)) AS gone JOIN inbox AS m ON m.target = gone.column1 AND m.id = gone.column2
);

-- name: refresh_first_due
-- When the first message of each of these inboxes is visible. Recomputed, never adjusted: it cannot drift.
UPDATE instance SET
  first_due_us = (SELECT min(visible_us) FROM inbox WHERE target = instance.key),
  first_control_us = (SELECT min(visible_us) FROM inbox WHERE target = instance.key AND control)
WHERE key IN (/*rows*/ ?);

-- name: add_tasks
-- New tasks.
INSERT INTO task (position, id, instance, execution, name, created_us, worker, attempt, cancelled, payload)
SELECT * FROM (VALUES /*rows*/ (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) WHERE column1 IS NOT NULL;

-- name: update_tasks
-- Tasks that were leased or cancelled: (id, worker, attempt, cancelled).
UPDATE task SET worker = changed.column2, attempt = changed.column3, cancelled = changed.column4
FROM (VALUES /*rows*/ (?, ?, ?, ?)) AS changed WHERE task.id = changed.column1;

-- name: drop_tasks
-- Tasks by id.
DELETE FROM task WHERE id IN (/*rows*/ ?);

-- name: append_history
-- One row a turn. A second row for the same event numbers is an error, never a replacement.
INSERT INTO history (instance, first, count, payload)
SELECT * FROM (VALUES /*rows*/ (?, ?, ?, ?)) WHERE column1 IS NOT NULL;

-- name: put_workers
-- A heartbeat: (id, alive until).
INSERT INTO worker (id, until_us, claim_id, turns, tasks)
SELECT column1, column2, '', '[]', '[]' FROM (VALUES /*rows*/ (?, ?)) WHERE column1 IS NOT NULL
ON CONFLICT (id) DO UPDATE SET until_us = excluded.until_us;

-- name: put_claims
-- A worker's last claim.
INSERT OR REPLACE INTO worker (id, until_us, claim_id, turns, tasks)
SELECT * FROM (VALUES /*rows*/ (?, ?, ?, ?, ?)) WHERE column1 IS NOT NULL;

-- name: drop_workers
-- Workers by id.
DELETE FROM worker WHERE id IN (/*rows*/ ?);

-- name: remember
-- Ids against repeated submissions; one that is remembered again moves to the end.
INSERT OR REPLACE INTO seen (id, until_us)
SELECT * FROM (VALUES /*rows*/ (?, ?)) WHERE column1 IS NOT NULL;

-- name: forget
-- Those before the first whose time is not over, and so many at most: a backlog is worked off beat by beat instead of stopping the writer.
DELETE FROM seen WHERE number < (
  SELECT coalesce((SELECT number FROM seen WHERE number < edge AND until_us > ? ORDER BY number LIMIT 1), edge)
  FROM (SELECT min(number) + 20000 AS edge FROM seen)
);

-- name: advance
-- The counters and the clock.
UPDATE hub SET epoch = ?, position = ?, now_us = ?, last_key = ?;

-- ── claiming ─────────────────────────────────────────────────────────────────────────────────────────────────────
-- "stale": a second ago. What has been due since then may be taken from a worker that only holds it.

-- name: find_turns
-- Of each queue (name) the instances to wake first, id and since when: (now, worker, now, stale, how many).
SELECT json_group_array(json_array(i.id, i.wake_us))
FROM (VALUES /*rows*/ (?)) AS q
JOIN instance AS i ON i.key IN (
  SELECT key FROM instance
  WHERE queue = q.column1 AND wake_us <= ? AND (holder IS NULL OR holder = ? OR hold_until_us <= ? OR wake_us <= ?)
  ORDER BY wake_us LIMIT ?
);

-- name: find_control
-- Instances with a control message, whatever their name and state: id and since when.
SELECT json_group_array(json_array(id, control_us)) FROM (
  SELECT id, control_us FROM instance
  WHERE control_us <= :now_us
    AND (holder IS NULL OR holder = :worker OR hold_until_us <= :now_us OR control_us <= :stale_us OR wake_us <= :stale_us)
  ORDER BY control_us LIMIT :many
);

-- name: find_tasks
-- Of each activity (name) so many of the oldest tasks that nobody runs: position, id, size.
SELECT json_group_array(json_array(t.position, t.id, length(t.payload)))
FROM (VALUES /*rows*/ (?)) AS a
JOIN task AS t ON t.position IN (
  SELECT position FROM task WHERE worker IS NULL AND name = a.column1 ORDER BY position LIMIT ?
);

-- name: next_wake
-- When the next instance of these queues (name) wakes by itself after now.
SELECT min(at) FROM (
  SELECT (SELECT min(wake_us) FROM instance WHERE queue = q.column1 AND wake_us > now.column1) AS at
  FROM (VALUES /*rows*/ (?)) AS q, (VALUES (?)) AS now
);

-- name: next_steal
-- When the next instance of these queues (name), due but held by another worker, is let go or may be taken: (worker, now).
SELECT min(at) FROM (
  SELECT (
    SELECT min(min(hold_until_us, wake_us + 1000000)) FROM instance
    WHERE queue = q.column1 AND wake_us <= claim.column2 AND holder <> claim.column1 AND hold_until_us > claim.column2
  ) AS at
  FROM (VALUES /*rows*/ (?)) AS q, (VALUES (?, ?)) AS claim
);

-- name: next_control
-- When the next control message is due, or an instance with one is let go or may be taken.
SELECT min(at) FROM (
  SELECT min(control_us) AS at FROM instance WHERE control_us > :now_us
  UNION ALL
  SELECT min(min(hold_until_us, control_us + 1000000)) FROM instance WHERE control_us <= :now_us AND holder <> :worker AND hold_until_us > :now_us
);

-- ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: query_instances
-- A page of instances after (created, id), columns as in load_instances. A condition whose parameter is NULL holds. /*source*/: see below.
SELECT json_group_array(json(found)) FROM (
  SELECT json_array(
    key, first_due_us,
    id, execution, name, status, created_us, updated_us, parent, parent_execution, epoch, version, history_length,
    holder, claimed, hold_until_us, not_before_us, attempt, parked, problem, last_commit
  ) AS found
  FROM /*source*/
  WHERE (created_us, id) > (:after_us, :after_id)
    AND (:id_from IS NULL OR id >= :id_from)
    AND (:id_to IS NULL OR id < :id_to)
    AND (substr(id, 1, 1) = '@') = :entities
    AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
    AND (:name IS NULL OR name = :name)
    AND (:parent IS NULL OR parent = :parent)
    AND (:created_from_us IS NULL OR created_us >= :created_from_us)
    AND (:created_to_us IS NULL OR created_us < :created_to_us)
    AND (:updated_from_us IS NULL OR updated_us >= :updated_from_us)
    AND (:updated_to_us IS NULL OR updated_us < :updated_to_us)
  ORDER BY created_us, id LIMIT :many
);

-- name: source_by_age
-- All instances in order of age: the answer is found on the way.
instance;

-- name: source_by_parent
-- Where few children are expected: these, sorted afterwards.
(SELECT * FROM instance INDEXED BY instance_by_parent WHERE parent = :parent);

-- name: source_by_id
-- Where few ids are expected: these, sorted afterwards.
(SELECT * FROM instance INDEXED BY sqlite_autoindex_instance_1 WHERE id >= :id_from AND id < :id_to);

-- name: source_by_rare_status
-- Instances in one of the states that are few, in order of age.
(SELECT * FROM instance INDEXED BY instance_rare WHERE status = 'FAILED' OR status = 'TERMINATED' OR status = 'SUSPENDED');

-- name: count_children
-- How many children a parent has, up to a limit.
SELECT count(*) FROM (SELECT 1 FROM instance WHERE parent = :parent LIMIT :many);

-- name: count_ids
-- How many instances have an id in a range, up to a limit.
SELECT count(*) FROM (SELECT 1 FROM instance WHERE id >= :id_from AND id < :id_to LIMIT :many);

-- name: read_history
-- The history's length, and rows from an event number on while they fit, the first one in any case.
SELECT json_array(i.history_length, json((
  SELECT json_group_array(json_array(h.first, h.count, hex(h.payload)))
  FROM (
    SELECT key FROM (
      SELECT key, sum(size) OVER (ORDER BY first) AS total, row_number() OVER (ORDER BY first) AS number
      FROM (
        SELECT key, first, length(payload) AS size FROM history WHERE instance = i.key AND first >= :first ORDER BY first LIMIT 10000
      )
    )
    WHERE total <= :max_bytes OR number = 1
    ORDER BY number
  ) AS page
  JOIN history AS h ON h.key = page.key
)))
FROM instance AS i WHERE i.id = :instance AND i.execution = coalesce(:execution, i.execution);

-- ── checking ─────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: find_faults
-- What must not be: kind of fault, where.
SELECT 'message without instance', id FROM inbox WHERE target NOT IN (SELECT key FROM instance)
UNION ALL SELECT 'task without instance', id FROM task WHERE instance NOT IN (SELECT key FROM instance)
UNION ALL SELECT 'history without instance', key FROM history WHERE instance NOT IN (SELECT key FROM instance)
UNION ALL SELECT 'detail without instance', instance || ' ' || kind FROM detail WHERE instance NOT IN (SELECT key FROM instance)
UNION ALL SELECT 'key never given out', id FROM instance WHERE key > (SELECT last_key FROM hub)
UNION ALL SELECT 'first_due_us', id FROM instance AS i
  WHERE first_due_us IS NOT (SELECT min(visible_us) FROM inbox WHERE target = i.key)
UNION ALL SELECT 'first_control_us', id FROM instance AS i
  WHERE first_control_us IS NOT (SELECT min(visible_us) FROM inbox WHERE target = i.key AND control)
UNION ALL SELECT 'hole in history', i.id || ' before event ' || h.first FROM history AS h JOIN instance AS i ON i.key = h.instance
  WHERE h.first > 0 AND NOT EXISTS (SELECT 1 FROM history AS p WHERE p.instance = h.instance AND p.first + p.count = h.first)
UNION ALL SELECT 'history_length', id FROM instance AS i
  WHERE history_length <> coalesce((SELECT max(first + count) FROM history WHERE instance = i.key), 0);
