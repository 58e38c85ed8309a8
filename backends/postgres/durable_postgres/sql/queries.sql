-- Every statement that the store sends. "-- name:" and a sentence head each. $1, $2 … are described where they are not obvious; rows.py, tables.py and
-- reads.py send them. The hub's own schema is first in the search path.

-- ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: set_session
-- Settings of this session: names and values.
SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS s (name, value);

-- name: server_process
-- Who serves this session now?
SELECT pg_backend_pid();

-- name: describe_server
-- What opening must know: is there a schema of that name, a hub in it, may we write, is it a primary, does our search path hold?
SELECT
  current_setting('server_version_num')::integer AS server_version, current_setting('server_encoding') AS encoding,
  current_setting('transaction_read_only')::boolean AS read_only, pg_is_in_recovery() AS standby,
  to_regnamespace(quote_ident($1)) IS NOT NULL AS has_schema, to_regclass(quote_ident($1) || '.hub') IS NOT NULL AS has_hub,
  (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident($1))) AS relations, current_setting('search_path') AS search_path;

-- name: lock_migrations
-- One process migrates a hub at a time, in one transaction.
SELECT pg_advisory_xact_lock(hashtextextended('durable-core migration of ' || $1, 0));

-- name: schema_version
-- The number of the last schema file that was carried out.
SELECT version FROM hub;

-- name: create_schema
-- Of a new hub. A name cannot be a parameter: {hub} is put in, as options.py let it through.
CREATE SCHEMA "{hub}";

-- name: drop_schema
-- A hub and all that is in it. {hub} as above.
DROP SCHEMA IF EXISTS "{hub}" CASCADE;

-- name: set_schema_version
-- After migrating, inside the same transaction.
UPDATE hub SET version = $1;

-- ── a batch of commands ──────────────────────────────────────────────────────────────────────────────────────────

-- name: load
-- What hub.needs names, one row each, in one snapshot: $1 the clock (NULL: the server's), $2 a floor under it, $3 instances, $4 tasks, $5 whose cancelled
-- tasks, $6 and $7 inboxes and how many messages, $8 inboxes of which one, $9 and $10 single messages, $11 and $12 details, $13 seen ids, $14 workers, $15
-- all workers, and whose lock is free.
WITH clock AS MATERIALIZED (
  SELECT greatest(coalesce($1::bigint, server_us()), $2::bigint, hub.now_us, (SELECT max(touched_us) FROM instance WHERE id = ANY ($3::bytea[]))) AS now_us, version
  FROM hub
)
SELECT
  ROW(version, now_us, nextval('ticket'), 0, NULL)::head_row AS head, NULL::instance_row AS instance, NULL::task_row AS task, NULL::message_row AS message,
  NULL::detail_row AS detail, NULL::seen_row AS seen, NULL::worker_row AS worker, NULL::bytea AS lifeless
FROM clock
UNION ALL SELECT NULL, as_row(i), NULL, NULL, NULL, NULL, NULL, NULL FROM instance AS i WHERE i.id = ANY ($3)
UNION ALL SELECT NULL, NULL, as_row(t, i.id, ''), NULL, NULL, NULL, NULL, NULL
  FROM task AS t JOIN instance AS i ON i.key = t.instance WHERE t.id = ANY ($4::bytea[])
UNION ALL SELECT NULL, NULL, as_row(t, i.id, ''), NULL, NULL, NULL, NULL, NULL
  FROM task AS t JOIN instance AS i ON i.key = t.instance WHERE t.worker = ANY ($5::bytea[]) AND t.cancelled
UNION ALL SELECT NULL, NULL, NULL, as_row(m), NULL, NULL, NULL, NULL FROM (
  SELECT i.key AS target, f.id FROM clock CROSS JOIN unnest($6::bytea[], $7::bigint[]) AS w (id, many)
  JOIN instance AS i ON i.id = w.id AND i.first_due_us <= clock.now_us
  CROSS JOIN LATERAL (SELECT id FROM inbox WHERE target = i.key AND visible_us <= clock.now_us ORDER BY visible_us, position LIMIT w.many) AS f
  UNION
  SELECT i.key, c.id FROM clock CROSS JOIN unnest($6) AS w (id) JOIN instance AS i ON i.id = w.id AND i.first_control_us <= clock.now_us
  CROSS JOIN LATERAL (SELECT id FROM inbox WHERE target = i.key AND control AND visible_us <= clock.now_us OFFSET 0) AS c
  UNION
  SELECT i.key, f.id FROM instance AS i CROSS JOIN LATERAL (SELECT id FROM inbox WHERE target = i.key LIMIT 1) AS f
  WHERE i.id = ANY ($8::bytea[]) AND i.first_due_us IS NOT NULL
  UNION
  SELECT i.key, w.id FROM unnest($9::bytea[], $10::bytea[]) AS w (target, id) JOIN instance AS i ON i.id = w.target
) AS wanted JOIN inbox AS m ON m.target = wanted.target AND m.id = wanted.id
UNION ALL SELECT NULL, NULL, NULL, NULL, ROW(d.instance, d.kind, d.data)::detail_row, NULL, NULL, NULL
  FROM unnest($11::bytea[], $12::text[]) AS w (id, kind) JOIN instance AS i ON i.id = w.id JOIN detail AS d ON d.instance = i.key AND d.kind = w.kind
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, ROW(s.id, s.until_us)::seen_row, NULL, NULL FROM seen AS s WHERE s.id = ANY ($13::bytea[])
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, ROW(w.id, w.until_us, '', '{}', '{}', false)::worker_row, NULL
  FROM worker AS w WHERE $15::boolean OR w.id = ANY ($14::bytea[])
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, w.id FROM worker AS w WHERE $15 AND pg_try_advisory_xact_lock_shared(life_of(w.id));

-- name: lock_rows
-- Before loading again what others have changed meanwhile: workers, instances and tasks by id.
SELECT lock_rows($1, $2, $3);

-- name: write
-- See the function.
SELECT write(
  $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30
);

-- name: load_payloads
-- Payloads that were left behind, by (target's key, id).
SELECT m.target, m.id, m.payload FROM unnest($1::bigint[], $2::bytea[]) AS w (target, id) JOIN inbox AS m ON m.target = w.target AND m.id = w.id;

-- ── a claim ──────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: find
-- What a claim needs, one row each as in "load", in one snapshot: $1 the clock (NULL: the server's), $2 a floor under it, $3 worker, $4 claim id, $5 queues, $6 activities,
-- $7 and $8 how many candidates, $9 messages of each, $10 turns asked for, $11 and $12 what was locked (NULL: look for candidates).
WITH clock AS MATERIALIZED (SELECT greatest(coalesce($1::bigint, server_us()), $2::bigint, hub.now_us) AS now_us, version FROM hub),
me AS MATERIALIZED (SELECT w.*, w.claim_id = $4::bytea AS again FROM worker AS w WHERE w.id = $3::bytea),
turn AS MATERIALIZED (
  SELECT unnest(me.turns) AS id FROM me WHERE me.again
  UNION ALL
  SELECT unnest($11::bytea[]) FROM me WHERE NOT me.again
  UNION ALL
  SELECT c.id FROM me CROSS JOIN clock CROSS JOIN LATERAL candidate_turns($3, $5::bytea[], clock.now_us, clock.now_us - 1000000, $7::bigint) AS c
  WHERE NOT me.again AND $11 IS NULL
),
chosen_task AS MATERIALIZED (
  SELECT unnest(me.tasks) AS id FROM me WHERE me.again
  UNION ALL
  SELECT unnest($12::bytea[]) FROM me WHERE NOT me.again
  UNION ALL
  SELECT c.id FROM me CROSS JOIN LATERAL candidate_tasks($6::bytea[], $8::bigint) AS c WHERE NOT me.again AND $12 IS NULL
),
found AS MATERIALIZED (
  SELECT as_row(i) AS row, i.key, i.id, i.touched_us, i.first_due_us, i.first_control_us FROM instance AS i WHERE i.id IN (SELECT id FROM turn)
)
SELECT
  ROW(
    version, greatest(now_us, (SELECT max(touched_us) FROM found)),
    (SELECT nextval('ticket') WHERE EXISTS (SELECT FROM turn) OR EXISTS (SELECT FROM chosen_task)),
    (SELECT count(*) FROM worker AS w WHERE w.id <> $3), next_due($3, $5, now_us, (SELECT count(*) FROM turn) < $10::bigint)
  )::head_row AS head,
  NULL::instance_row AS instance, NULL::task_row AS task, NULL::message_row AS message, NULL::detail_row AS detail, NULL::seen_row AS seen,
  NULL::worker_row AS worker, NULL::bytea AS lifeless
FROM clock
UNION ALL SELECT NULL, i.row, NULL, NULL, NULL, NULL, NULL, NULL FROM found AS i
UNION ALL SELECT NULL, NULL, as_row(t, i.id, t.payload), NULL, NULL, NULL, NULL, NULL
  FROM chosen_task AS c JOIN task AS t ON t.id = c.id JOIN instance AS i ON i.key = t.instance
UNION ALL SELECT NULL, NULL, NULL, as_row(m), NULL, NULL, NULL, NULL FROM (
  SELECT i.key AS target, f.id FROM clock JOIN found AS i ON i.first_due_us <= clock.now_us
  CROSS JOIN LATERAL (SELECT id FROM inbox WHERE target = i.key AND visible_us <= clock.now_us ORDER BY visible_us, position LIMIT $9::bigint) AS f
  UNION
  SELECT i.key, c.id FROM clock JOIN found AS i ON i.first_control_us <= clock.now_us
  CROSS JOIN LATERAL (SELECT id FROM inbox WHERE target = i.key AND control AND visible_us <= clock.now_us OFFSET 0) AS c
) AS wanted JOIN inbox AS m ON m.target = wanted.target AND m.id = wanted.id
UNION ALL SELECT NULL, NULL, NULL, NULL, ROW(d.instance, d.kind, d.data)::detail_row, NULL, NULL, NULL
  FROM found AS i CROSS JOIN LATERAL (SELECT * FROM detail WHERE instance = i.key AND kind IN ('start', 'snapshot') OFFSET 0) AS d
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, ROW(id, until_us, claim_id, turns, tasks, false)::worker_row, NULL FROM me
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, w.id FROM worker AS w WHERE w.id <> $3 AND pg_try_advisory_xact_lock_shared(life_of(w.id));

-- name: lock_candidates
-- Candidates that nobody else is about to take: turns and tasks.
SELECT turns, tasks FROM lock_candidates(
  $3::bytea, $4::bytea[], $5::bytea[], greatest(coalesce($1::bigint, server_us()), $2::bigint, (SELECT now_us FROM hub)), $6, $7
);

-- ── lives and wake-ups ───────────────────────────────────────────────────────────────────────────────────────────

-- name: hold_life
-- See the function.
SELECT hold_life($1);

-- name: end_former_session
-- Whoever else has the lock of this incarnation is a session of ours whose connection was lost without the server's noticing.
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock' AND pid <> pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND objsubid = 1 AND classid::bigint = (life_of($1) >> 32) & 4294967295 AND objid::bigint = life_of($1) & 4294967295;

-- name: not_back
-- Of these workers, whose locks are free: those who have not held them since the server was started.
SELECT id FROM worker WHERE id = ANY ($1::bytea[]) AND server <> pg_postmaster_start_time();

-- name: drop_life
-- An incarnation is over.
SELECT pg_advisory_unlock(life_of($1));

-- name: drop_lives
-- All incarnations of this handle are over.
SELECT pg_advisory_unlock_all();

-- name: tell
-- Wake up whoever listens, on this handle or another.
SELECT pg_notify($1, $2);

-- name: ping
-- Is the connection there, and what it listens with?
SELECT 1;

-- ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: get_instances
-- Records by id, with their details but for obituaries.
SELECT as_row(i) AS row, (
  SELECT array_agg(ROW(d.instance, d.kind, d.data)::detail_row) FROM detail AS d WHERE d.instance = i.key AND d.kind <> 'obituaries'
) AS details
FROM instance AS i WHERE i.id = ANY ($1::bytea[]);

-- name: query_instances
-- A page of records after (created, id) = ($1, $2). A condition whose parameter is NULL holds. $3, $4: range of ids; $12: how many.
SELECT as_row(i) AS row, (
  SELECT array_agg(ROW(d.instance, d.kind, d.data)::detail_row) FROM detail AS d WHERE d.instance = i.key AND d.kind <> 'obituaries'
) AS details
FROM instance AS i
WHERE (i.created_us, i.id) > ($1::bigint, $2::bytea)
  AND ($3::bytea IS NULL OR i.id >= $3)
  AND ($4::bytea IS NULL OR i.id < $4)
  AND (substr(i.id, 1, 1) = '@') = $5::boolean
  AND ($6::text[] IS NULL OR i.status = ANY ($6))
  AND ($7::bytea IS NULL OR i.name = $7)
  AND ($8::bytea IS NULL OR i.parent = $8)
  AND ($9::bigint IS NULL OR i.created_us >= $9)
  AND ($10::bigint IS NULL OR i.created_us < $10)
  AND ($11::bigint IS NULL OR i.updated_us >= $11)
  AND ($13::bigint IS NULL OR i.updated_us < $13)
ORDER BY i.created_us, i.id LIMIT $12;

-- name: read_history
-- The history's length, and rows from event $3 on while they fit into $4 bytes, the first one in any case.
SELECT i.history_length, (
  SELECT array_agg(ROW(h.instance, h.first, h.count, h.payload)::history_row ORDER BY h.first)
  FROM (
    SELECT first FROM (
      SELECT first, sum(size) OVER (ORDER BY first) AS total, row_number() OVER (ORDER BY first) AS number
      FROM (SELECT first, octet_length(payload) AS size FROM history WHERE instance = i.key AND first >= $3 ORDER BY first LIMIT 10000) AS sizes
    ) AS totals
    WHERE total <= $4 OR number = 1
  ) AS page JOIN history AS h ON h.instance = i.key AND h.first = page.first
) AS rows
FROM instance AS i WHERE i.id = $1::bytea AND ($2::bytea IS NULL OR i.execution = $2);

-- ── checking ─────────────────────────────────────────────────────────────────────────────────────────────────────

-- name: find_faults
-- What must not be: kind of fault, where.
SELECT 'message without instance' AS kind, shown(id) AS place FROM inbox WHERE target NOT IN (SELECT key FROM instance)
UNION ALL SELECT 'task without instance', shown(id) FROM task WHERE instance NOT IN (SELECT key FROM instance)
UNION ALL SELECT 'history without instance', instance::text FROM history WHERE instance NOT IN (SELECT key FROM instance)
UNION ALL SELECT 'detail without instance', instance || ' ' || kind FROM detail WHERE instance NOT IN (SELECT key FROM instance)
UNION ALL SELECT 'lease of nobody', shown(id) FROM instance WHERE holder IS NOT NULL AND holder NOT IN (SELECT id FROM worker)
UNION ALL SELECT 'task of nobody', shown(id) FROM task WHERE worker IS NOT NULL AND worker NOT IN (SELECT id FROM worker)
UNION ALL SELECT 'first_due_us', shown(id) FROM instance AS i
  WHERE first_due_us IS DISTINCT FROM (SELECT min(visible_us) FROM inbox WHERE target = i.key)
UNION ALL SELECT 'first_control_us', shown(id) FROM instance AS i
  WHERE first_control_us IS DISTINCT FROM (SELECT min(visible_us) FROM inbox WHERE target = i.key AND control)
UNION ALL SELECT 'hole in history', shown(i.id) || ' before event ' || h.first FROM history AS h JOIN instance AS i ON i.key = h.instance
  WHERE h.first > 0 AND NOT EXISTS (SELECT FROM history AS p WHERE p.instance = h.instance AND p.first + p.count = h.first)
UNION ALL SELECT 'history_length', shown(id) FROM instance AS i
  WHERE history_length <> coalesce((SELECT max(first + count) FROM history WHERE instance = i.key), 0);
