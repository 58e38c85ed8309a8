-- The first schema. Executed with the hub's PostgreSQL schema first in the search path; migrate.py records the version in "hub".
--
-- Times are hub microseconds since the epoch (…_us). Every text that comes from users (ids, names) is bytea, its UTF-8 bytes: "text" cannot hold a NUL,
-- and bytes sort like code points. Everything that belongs to an instance refers to it by a number, its key. Keys, epochs and positions are taken from
-- one sequence: a batch draws a ticket t and owns the numbers t * 2^22 + 1 and on.
--
-- stamp: the ticket of the batch that last touched an instance (its row, its inbox) or a task. A batch is decided on rows read without locks; "write" locks
-- them, compares the stamps, and writes nothing if any has changed.

CREATE SEQUENCE ticket;

-- One row. now_us: a floor under the server's clock, raised by heartbeats.
CREATE TABLE hub (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  version  integer NOT NULL,
  now_us   bigint  NOT NULL
);
INSERT INTO hub (version, now_us) VALUES (0, 0);

-- One row an instance. What commits rewrite is here; large and rarely read parts are in "detail".
--
-- first_due_us and first_control_us are the earliest times in the instance's inbox (of all messages; of control messages). They are recomputed from the inbox
-- whenever it is touched. wake_us and control_us follow from the row: from when the instance may be claimed by a worker that knows its name (or, by a control
-- message, by any), leases apart; NULL if only a change of the row can make it so.
CREATE TABLE instance (
  key              bigint  PRIMARY KEY,
  stamp            bigint  NOT NULL,
  id               bytea   NOT NULL UNIQUE,
  execution        bytea   NOT NULL,
  name             bytea   NOT NULL,
  status           text    NOT NULL,
  created_us       bigint  NOT NULL,
  updated_us       bigint  NOT NULL,
  parent           bytea,
  parent_execution bytea,
  epoch            bigint  NOT NULL,
  version          bigint  NOT NULL,
  history_length   bigint  NOT NULL,
  holder           bytea,
  claimed          boolean NOT NULL,
  hold_until_us    bigint  NOT NULL,
  not_before_us    bigint  NOT NULL,
  attempt          bigint  NOT NULL,
  parked           boolean NOT NULL,
  problem          bytea,
  last_commit      bytea   NOT NULL,
  touched_us       bigint  NOT NULL,
  first_due_us     bigint,
  first_control_us bigint,
  queue            bytea   NOT NULL GENERATED ALWAYS AS (CASE WHEN substr(id, 1, 1) = '@' THEN '@'::bytea || name ELSE name END) STORED,
  wake_us          bigint  GENERATED ALWAYS AS (
    CASE WHEN claimed OR parked OR status NOT IN ('PENDING', 'RUNNING') THEN NULL
         WHEN history_length = 0 AND substr(id, 1, 1) <> '@' -- its start is still to come
           THEN greatest(least(updated_us, first_due_us), not_before_us)
         WHEN first_due_us IS NOT NULL THEN greatest(first_due_us, not_before_us) END
  ) STORED,
  control_us       bigint  GENERATED ALWAYS AS (
    CASE WHEN claimed OR status IN ('COMPLETED', 'FAILED', 'TERMINATED') THEN NULL ELSE first_control_us END
  ) STORED
) WITH (fillfactor = 70);
CREATE INDEX instance_by_age ON instance (created_us, id);
CREATE INDEX instance_by_parent ON instance (parent) WHERE parent IS NOT NULL;
CREATE INDEX instance_by_holder ON instance (holder) WHERE holder IS NOT NULL;
CREATE INDEX instance_to_wake ON instance (queue, wake_us) WHERE wake_us IS NOT NULL;
CREATE INDEX instance_to_control ON instance (control_us) WHERE control_us IS NOT NULL;
CREATE INDEX instance_rare ON instance (created_us, id) WHERE status IN ('FAILED', 'TERMINATED', 'SUSPENDED');

-- The rest of an instance: start, custom_status, output, failure, snapshot, obituaries.
CREATE TABLE detail (
  instance bigint NOT NULL,
  kind     text   NOT NULL,
  data     bytea  NOT NULL,
  PRIMARY KEY (instance, kind)
);

-- One row a turn: its events, first … first + count - 1, as one JSON array in UTF-8. Only the current execution's are kept.
CREATE TABLE history (
  instance bigint NOT NULL,
  first    bigint NOT NULL,
  count    bigint NOT NULL,
  payload  bytea  NOT NULL,
  PRIMARY KEY (instance, first)
);

-- Messages that are neither consumed nor dropped, timers included. position: the order of arrival; visible_us: due, or arrived if that was later.
CREATE TABLE inbox (
  target     bigint  NOT NULL,
  position   bigint  NOT NULL,
  visible_us bigint  NOT NULL,
  id         bytea   NOT NULL,
  execution  bytea,
  sender     bytea   NOT NULL,
  due_us     bigint  NOT NULL,
  control    boolean NOT NULL,
  creates    bytea,
  payload    bytea   NOT NULL,
  PRIMARY KEY (target, id)
);
CREATE INDEX inbox_by_time ON inbox (target, visible_us, position);
CREATE INDEX inbox_control ON inbox (target, visible_us) WHERE control;

-- Activity tasks that have not been completed; worker: who runs it.
CREATE TABLE task (
  position   bigint  PRIMARY KEY,
  stamp      bigint  NOT NULL,
  instance   bigint  NOT NULL,
  id         bytea   NOT NULL UNIQUE,
  execution  bytea   NOT NULL,
  name       bytea   NOT NULL,
  created_us bigint  NOT NULL,
  worker     bytea,
  attempt    bigint  NOT NULL,
  cancelled  boolean NOT NULL,
  payload    bytea   NOT NULL
);
CREATE INDEX task_by_instance ON task (instance);
CREATE INDEX task_open ON task (name, position) WHERE worker IS NULL;
CREATE INDEX task_by_worker ON task (worker) WHERE worker IS NOT NULL;

-- Ids of messages and creates by clients, and of dead incarnations, against repeated submissions.
CREATE TABLE seen (
  id       bytea  PRIMARY KEY,
  until_us bigint NOT NULL
);
CREATE INDEX seen_by_time ON seen (until_us);

-- Live incarnations. claim_id, turns and tasks are its last claim, so that a repeated one returns the same items. server: the start of the server that
-- it has last held its lock on; one that has not come back since the server was started again may be on its way.
CREATE TABLE worker (
  id       bytea   PRIMARY KEY,
  until_us bigint  NOT NULL,
  server   timestamptz NOT NULL DEFAULT pg_postmaster_start_time(),
  claim_id bytea   NOT NULL DEFAULT '',
  turns    bytea[] NOT NULL DEFAULT '{}',
  tasks    bytea[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);

-- Rows are soon dead in these tables: they are to be vacuumed long before a fifth of them is.
ALTER TABLE inbox SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000);
ALTER TABLE task SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000);
ALTER TABLE worker SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- ── rows on the wire ─────────────────────────────────────────────────────────────────────────────────────────────

-- refresh: its inbox was touched.
CREATE TYPE instance_row AS (
  key bigint, stamp bigint, touched_us bigint, first_due_us bigint,
  id bytea, execution bytea, name bytea, status text, created_us bigint, updated_us bigint, parent bytea, parent_execution bytea,
  epoch bigint, version bigint, history_length bigint, holder bytea, claimed boolean, hold_until_us bigint, not_before_us bigint,
  attempt bigint, parked boolean, problem bytea, last_commit bytea, refresh boolean
);
-- payload NULL: it was left behind; size is its size.
CREATE TYPE message_row AS (
  target bigint, position bigint, visible_us bigint, id bytea, execution bytea, sender bytea, due_us bigint, control boolean, creates bytea,
  payload bytea, size bigint
);
CREATE TYPE task_row AS (
  position bigint, stamp bigint, instance bigint, instance_id bytea, id bytea, execution bytea, name bytea, created_us bigint, worker bytea,
  attempt bigint, cancelled boolean, payload bytea
);
CREATE TYPE detail_row AS (instance bigint, kind text, data bytea);
CREATE TYPE history_row AS (instance bigint, first bigint, count bigint, payload bytea);
CREATE TYPE worker_row AS (id bytea, until_us bigint, claim_id bytea, turns bytea[], tasks bytea[], beats boolean);
-- What is known once: the schema's version, the time, a ticket; and of a claim how many other workers there are, and Claim.next_due_us.
CREATE TYPE head_row AS (version integer, now_us bigint, ticket bigint, others bigint, next_due_us bigint);
CREATE TYPE seen_row AS (id bytea, until_us bigint);
-- Everything of an instance (part NULL), or what belongs to one of its executions.
CREATE TYPE range_row AS (instance bigint, part bytea);

-- ── functions ────────────────────────────────────────────────────────────────────────────────────────────────────

-- The server's clock.
CREATE FUNCTION server_us() RETURNS bigint LANGUAGE sql VOLATILE AS $$
  SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
$$;

-- The advisory lock that an incarnation's session holds while it lives.
CREATE FUNCTION life_of(worker bytea) RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT hashtextextended(current_schema() || ' ' || encode(worker, 'hex'), 0)
$$;

-- The class of the advisory locks on ids that are not there.
CREATE FUNCTION absence_class() RETURNS integer LANGUAGE sql STABLE AS $$
  SELECT hashtext('durable-core ' || current_schema())
$$;

CREATE FUNCTION as_row(i instance) RETURNS instance_row LANGUAGE sql STABLE AS $$
  SELECT ROW(
    i.key, i.stamp, i.touched_us, i.first_due_us, i.id, i.execution, i.name, i.status, i.created_us, i.updated_us, i.parent, i.parent_execution,
    i.epoch, i.version, i.history_length, i.holder, i.claimed, i.hold_until_us, i.not_before_us, i.attempt, i.parked, i.problem, i.last_commit, false
  )::instance_row
$$;

-- Large payloads stay behind: most messages are consumed unread.
CREATE FUNCTION as_row(m inbox) RETURNS message_row LANGUAGE sql STABLE AS $$
  SELECT ROW(
    m.target, m.position, m.visible_us, m.id, m.execution, m.sender, m.due_us, m.control, m.creates,
    CASE WHEN octet_length(m.payload) <= 8192 THEN m.payload END, octet_length(m.payload)
  )::message_row
$$;

CREATE FUNCTION as_row(t task, owner bytea, payload bytea) RETURNS task_row LANGUAGE sql STABLE AS $$
  SELECT ROW(t.position, t.stamp, t.instance, owner, t.id, t.execution, t.name, t.created_us, t.worker, t.attempt, t.cancelled, payload)::task_row
$$;

-- ── claiming ─────────────────────────────────────────────────────────────────────────────────────────────────────
-- An incarnation lives while the session that called this does.
CREATE FUNCTION hold_life(worker bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_lock(life_of(hold_life.worker));
  UPDATE worker AS w SET server = pg_postmaster_start_time() WHERE w.id = hold_life.worker AND w.server <> pg_postmaster_start_time();
END $$;

-- Candidates by index; the rules choose among them. stale_us: a second ago. What has been due since then may be taken from a worker that only holds it.

-- Instances that may be claimed, those that have waited longest first.
CREATE FUNCTION candidate_turns(me bytea, queues bytea[], now_us bigint, stale_us bigint, many bigint)
RETURNS TABLE (key bigint, id bytea, since_us bigint) LANGUAGE sql STABLE AS $$
  SELECT found.key, found.id, min(found.since_us) AS since_us
  FROM (
    SELECT by_name.* FROM unnest(queues) AS q (name) CROSS JOIN LATERAL (
      SELECT i.key, i.id, i.wake_us AS since_us FROM instance AS i
      WHERE i.queue = q.name AND i.wake_us <= now_us AND (i.holder IS NULL OR i.holder = me OR i.hold_until_us <= now_us OR i.wake_us <= stale_us)
      ORDER BY i.wake_us LIMIT many
    ) AS by_name
    UNION ALL
    SELECT by_control.* FROM (
      SELECT i.key, i.id, i.control_us AS since_us FROM instance AS i
      WHERE i.control_us <= now_us
        AND (i.holder IS NULL OR i.holder = me OR i.hold_until_us <= now_us OR i.control_us <= stale_us OR i.wake_us <= stale_us)
      ORDER BY i.control_us LIMIT many
    ) AS by_control
  ) AS found
  GROUP BY found.key, found.id ORDER BY 3, 2 LIMIT many
$$;

-- Tasks that nobody runs, oldest first: as many as fit into 64 MiB, one in any case.
CREATE FUNCTION candidate_tasks(activities bytea[], many bigint) RETURNS TABLE (position_ bigint, id bytea) LANGUAGE sql STABLE AS $$
  SELECT fitting.position, fitting.id
  FROM (
    SELECT oldest.position, oldest.id, sum(oldest.size) OVER (ORDER BY oldest.position) AS total, row_number() OVER (ORDER BY oldest.position) AS number
    FROM (
      SELECT by_name.* FROM unnest(activities) AS a (name) CROSS JOIN LATERAL (
        SELECT t.position, t.id, octet_length(t.payload) AS size FROM task AS t
        WHERE t.worker IS NULL AND t.name = a.name ORDER BY t.position LIMIT many
      ) AS by_name
      ORDER BY by_name.position LIMIT many
    ) AS oldest
  ) AS fitting
  WHERE fitting.total <= 67108864 OR fitting.number = 1
$$;

-- The same, each locked until the end of the transaction. What others have locked is passed over, unless it has been due for a second.
CREATE FUNCTION lock_candidates(
  me bytea, queues bytea[], activities bytea[], now_us bigint, many_turns bigint, many_tasks bigint, OUT turns bytea[], OUT tasks bytea[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  stale_us bigint := now_us - 1000000;
  wanted bytea;
  found bytea[];
BEGIN
  PERFORM FROM worker WHERE id = me FOR KEY SHARE;
  PERFORM FROM instance WHERE key IN (SELECT c.key FROM candidate_turns(me, queues, stale_us, stale_us, many_turns) AS c) ORDER BY key FOR UPDATE;
  SELECT array_agg(c.id) INTO turns FROM candidate_turns(me, queues, stale_us, stale_us, many_turns) AS c;
  FOREACH wanted IN ARRAY queues LOOP
    SELECT array_agg(free.id) INTO found FROM (
      SELECT id FROM instance
      WHERE queue = wanted AND wake_us <= lock_candidates.now_us
        AND (holder IS NULL OR holder = me OR hold_until_us <= lock_candidates.now_us OR wake_us <= stale_us)
      ORDER BY wake_us LIMIT many_turns FOR UPDATE SKIP LOCKED
    ) AS free;
    turns := turns || found;
  END LOOP;
  SELECT array_agg(free.id) INTO found FROM (
    SELECT id FROM instance
    WHERE control_us <= lock_candidates.now_us
      AND (holder IS NULL OR holder = me OR hold_until_us <= lock_candidates.now_us OR control_us <= stale_us OR wake_us <= stale_us)
    ORDER BY control_us LIMIT many_turns FOR UPDATE SKIP LOCKED
  ) AS free;
  SELECT array_agg(DISTINCT chosen.id) INTO turns FROM unnest(turns || found) AS chosen (id);

  PERFORM FROM task WHERE position IN (
    SELECT c.position_ FROM candidate_tasks(activities, many_tasks) AS c JOIN task AS t ON t.position = c.position_ WHERE t.created_us <= stale_us
  ) ORDER BY position FOR UPDATE;
  FOREACH wanted IN ARRAY activities LOOP
    SELECT array_agg(free.id) INTO found FROM (
      SELECT id FROM task WHERE worker IS NULL AND name = wanted ORDER BY position LIMIT many_tasks FOR UPDATE SKIP LOCKED
    ) AS free;
    tasks := tasks || found;
  END LOOP;
  SELECT array_agg(first.id) INTO tasks FROM (
    SELECT t.id FROM task AS t WHERE t.id = ANY (tasks) ORDER BY t.position LIMIT many_tasks
  ) AS first;
  turns := coalesce(turns, '{}');
  tasks := coalesce(tasks, '{}');
END $$;

-- When the next instance of these queues wakes, is let go or may be taken (only if "held" is to be looked at), by time alone.
CREATE FUNCTION next_due(me bytea, queues bytea[], now_us bigint, held boolean) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_variable
BEGIN
  RETURN (SELECT min(times.at) FROM (
    SELECT (SELECT min(i.wake_us) FROM instance AS i WHERE i.queue = q.name AND i.wake_us > now_us) AS at FROM unnest(queues) AS q (name)
    UNION ALL
    SELECT (
      SELECT min(least(i.hold_until_us, i.wake_us + 1000000)) FROM instance AS i
      WHERE i.queue = q.name AND i.wake_us <= now_us AND i.holder <> me AND i.hold_until_us > now_us
    ) FROM unnest(queues) AS q (name) WHERE held
    UNION ALL
    SELECT min(i.control_us) FROM instance AS i WHERE i.control_us > now_us
    UNION ALL
    SELECT min(least(i.hold_until_us, i.control_us + 1000000)) FROM instance AS i
    WHERE i.control_us <= now_us AND i.holder <> me AND i.hold_until_us > now_us
  ) AS times);
END $$;

-- ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

-- Take the locks that "write" would take, in the same order, and keep them until the end of the transaction: workers by id, instances by key, tasks by
-- position, then what is not there.
CREATE FUNCTION lock_rows(workers bytea[], instances bytea[], tasks bytea[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM FROM worker WHERE id = ANY (workers) ORDER BY id FOR KEY SHARE;
  PERFORM FROM instance WHERE id = ANY (instances) ORDER BY key FOR UPDATE;
  PERFORM FROM task WHERE id = ANY (tasks) ORDER BY position FOR UPDATE;
  PERFORM lock_absence(instances);
END $$;

-- Nobody else creates an instance whose id is not there, for the rest of the transaction. Few locks, however many ids: the server's table of locks is small.
CREATE FUNCTION lock_absence(ids bytea[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(absence_class(), bucket) FROM (
    SELECT DISTINCT hashtext(encode(absent.id, 'hex')) & 127 AS bucket FROM unnest(ids) AS absent (id)
    WHERE NOT EXISTS (SELECT FROM instance WHERE instance.id = absent.id) ORDER BY 1
  ) AS buckets;
END $$;

-- Write a batch that was decided on rows as they were loaded. False, and nothing written, if any of them has changed since. The caller says what a row is to
-- be, never what to do to it: rules are elsewhere.
CREATE FUNCTION write(
  ticket bigint, clock_us bigint,
  alive bytea[], dying bytea[], dying_until_us bigint[], loaded bigint[], stamps bigint[], loaded_tasks bigint[], task_stamps bigint[], absent bytea[],
  no_inboxes range_row[], no_tasks range_row[], no_histories bigint[], no_instances bigint[], no_details bigint[],
  gone_details detail_row[], details detail_row[],
  gone_targets bigint[], gone_messages bytea[], messages message_row[],
  gone_tasks bigint[], new_tasks task_row[], changed_tasks task_row[],
  new_instances instance_row[], changed_instances instance_row[], inboxes bigint[],
  histories history_row[], workers worker_row[], seen_ids seen_row[], forget_us bigint
) RETURNS boolean LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  found_rows bigint;
BEGIN
  -- Lock and compare. A worker that is to own something must not be given up meanwhile, or nobody would ever free it.
  PERFORM FROM worker WHERE id = ANY (alive) AND NOT id = ANY (dying) ORDER BY id FOR KEY SHARE;
  GET DIAGNOSTICS found_rows = ROW_COUNT;
  IF found_rows <> (SELECT count(*) FROM unnest(alive) AS a (id) WHERE NOT a.id = ANY (dying)) THEN
    RETURN false;
  END IF;
  IF cardinality(dying) > 0 THEN
    PERFORM FROM unnest(dying, dying_until_us) AS d (id, until_us) JOIN worker AS w ON w.id = d.id AND w.until_us = d.until_us ORDER BY w.id FOR UPDATE OF w;
    GET DIAGNOSTICS found_rows = ROW_COUNT;
    IF found_rows <> cardinality(dying) THEN
      RETURN false;
    END IF;
  END IF;
  IF cardinality(loaded) > 0 THEN
    SELECT count(*) FILTER (WHERE same) INTO found_rows FROM (
      SELECT i.stamp = l.stamp AS same FROM unnest(loaded, stamps) AS l (key, stamp) JOIN instance AS i ON i.key = l.key ORDER BY i.key FOR UPDATE OF i
    ) AS compared;
    IF found_rows <> cardinality(loaded) THEN
      RETURN false;
    END IF;
  END IF;
  IF cardinality(loaded_tasks) > 0 THEN
    SELECT count(*) FILTER (WHERE same) INTO found_rows FROM (
      SELECT t.stamp = l.stamp AS same FROM unnest(loaded_tasks, task_stamps) AS l (position, stamp) JOIN task AS t ON t.position = l.position
      ORDER BY t.position FOR UPDATE OF t
    ) AS compared;
    IF found_rows <> cardinality(loaded_tasks) THEN
      RETURN false;
    END IF;
  END IF;
  IF cardinality(absent) > 0 THEN
    PERFORM lock_absence(absent);
    IF EXISTS (SELECT FROM instance WHERE id = ANY (absent)) THEN
      RETURN false;
    END IF;
  END IF;

  -- The leases of the dead, and what was dropped without having been loaded.
  IF cardinality(dying) > 0 THEN
    PERFORM FROM instance WHERE holder = ANY (dying) ORDER BY key FOR UPDATE;
    UPDATE instance SET stamp = write.ticket, holder = NULL, claimed = false, hold_until_us = 0 WHERE holder = ANY (dying);
    PERFORM FROM task WHERE worker = ANY (dying) ORDER BY position FOR UPDATE;
    DELETE FROM task WHERE worker = ANY (dying) AND cancelled;
    UPDATE task SET stamp = write.ticket, worker = NULL WHERE worker = ANY (dying);
    DELETE FROM worker WHERE id = ANY (dying);
  END IF;
  IF cardinality(no_inboxes) > 0 THEN
    DELETE FROM inbox USING unnest(no_inboxes) AS r WHERE inbox.target = r.instance AND (r.part IS NULL OR inbox.execution = r.part);
  END IF;
  IF cardinality(no_tasks) > 0 THEN
    DELETE FROM task USING unnest(no_tasks) AS r WHERE task.instance = r.instance AND (r.part IS NULL OR task.execution = r.part);
  END IF;
  IF cardinality(no_histories) > 0 THEN
    DELETE FROM history WHERE instance = ANY (no_histories);
  END IF;
  IF cardinality(no_instances) > 0 THEN
    DELETE FROM instance WHERE key = ANY (no_instances);
  END IF;
  IF cardinality(no_details) > 0 THEN
    DELETE FROM detail WHERE instance = ANY (no_details);
  END IF;

  -- Rows. Inboxes come before instances, which say when their first message is due.
  IF cardinality(gone_details) > 0 THEN
    DELETE FROM detail USING unnest(gone_details) AS g WHERE detail.instance = g.instance AND detail.kind = g.kind;
  END IF;
  IF cardinality(details) > 0 THEN
    INSERT INTO detail SELECT * FROM unnest(details) ON CONFLICT (instance, kind) DO UPDATE SET data = excluded.data;
  END IF;
  IF cardinality(gone_messages) > 0 THEN
    DELETE FROM inbox USING unnest(gone_targets, gone_messages) AS g (target, id) WHERE inbox.target = g.target AND inbox.id = g.id;
  END IF;
  IF cardinality(messages) > 0 THEN
    INSERT INTO inbox SELECT target, position, visible_us, id, execution, sender, due_us, control, creates, payload FROM unnest(messages)
    ON CONFLICT (target, id) DO UPDATE SET
      position = excluded.position, visible_us = excluded.visible_us, execution = excluded.execution, sender = excluded.sender, due_us = excluded.due_us,
      control = excluded.control, creates = excluded.creates, payload = excluded.payload;
  END IF;
  IF cardinality(gone_tasks) > 0 THEN
    DELETE FROM task WHERE position = ANY (gone_tasks);
  END IF;
  IF cardinality(new_tasks) > 0 THEN
    INSERT INTO task
    SELECT position, write.ticket, instance, id, execution, name, created_us, worker, attempt, cancelled, payload FROM unnest(new_tasks);
  END IF;
  IF cardinality(changed_tasks) > 0 THEN
    UPDATE task SET stamp = write.ticket, worker = c.worker, attempt = c.attempt, cancelled = c.cancelled
    FROM unnest(changed_tasks) AS c WHERE task.position = c.position;
  END IF;
  IF cardinality(new_instances) > 0 THEN
    INSERT INTO instance
    SELECT
      key, write.ticket, n.id, n.execution, name, status, created_us, updated_us, parent, parent_execution, epoch, version, history_length,
      holder, claimed, hold_until_us, not_before_us, attempt, parked, problem, last_commit, write.clock_us,
      CASE WHEN refresh THEN (SELECT min(visible_us) FROM inbox WHERE target = n.key) END,
      CASE WHEN refresh THEN (SELECT min(visible_us) FROM inbox WHERE target = n.key AND control) END
    FROM unnest(new_instances) AS n;
  END IF;
  IF cardinality(changed_instances) > 0 THEN
    UPDATE instance SET
      stamp = write.ticket, touched_us = write.clock_us, execution = c.execution, name = c.name, status = c.status, created_us = c.created_us,
      updated_us = c.updated_us, parent = c.parent, parent_execution = c.parent_execution, epoch = c.epoch, version = c.version,
      history_length = c.history_length, holder = c.holder, claimed = c.claimed, hold_until_us = c.hold_until_us, not_before_us = c.not_before_us,
      attempt = c.attempt, parked = c.parked, problem = c.problem, last_commit = c.last_commit,
      first_due_us = CASE WHEN c.refresh THEN (SELECT min(visible_us) FROM inbox WHERE target = c.key) ELSE instance.first_due_us END,
      first_control_us = CASE WHEN c.refresh THEN (SELECT min(visible_us) FROM inbox WHERE target = c.key AND control) ELSE instance.first_control_us END
    FROM unnest(changed_instances) AS c WHERE instance.key = c.key;
  END IF;
  IF cardinality(inboxes) > 0 THEN
    UPDATE instance SET
      stamp = write.ticket, touched_us = write.clock_us,
      first_due_us = (SELECT min(visible_us) FROM inbox WHERE target = instance.key),
      first_control_us = (SELECT min(visible_us) FROM inbox WHERE target = instance.key AND control)
    WHERE key = ANY (inboxes);
  END IF;
  IF cardinality(histories) > 0 THEN
    INSERT INTO history SELECT * FROM unnest(histories);
  END IF;
  IF cardinality(workers) > 0 THEN
    INSERT INTO worker SELECT id, until_us FROM unnest(workers) WHERE beats
    ON CONFLICT (id) DO UPDATE SET until_us = excluded.until_us;
    UPDATE worker SET claim_id = c.claim_id, turns = c.turns, tasks = c.tasks FROM unnest(workers) AS c WHERE NOT c.beats AND worker.id = c.id;
  END IF;
  IF forget_us IS NOT NULL THEN
    -- At most so many at once: a backlog is worked off beat by beat.
    DELETE FROM seen WHERE id IN (SELECT id FROM seen WHERE until_us <= forget_us ORDER BY until_us LIMIT 20000 FOR UPDATE SKIP LOCKED);
    UPDATE hub SET now_us = write.clock_us WHERE now_us < write.clock_us;
  END IF;
  IF cardinality(seen_ids) > 0 THEN
    INSERT INTO seen SELECT * FROM unnest(seen_ids) AS s ORDER BY s.id ON CONFLICT (id) DO UPDATE SET until_us = excluded.until_us;
  END IF;
  RETURN true;
END $$;

-- ── for people: psql -c 'SELECT * FROM durable.instances' ────────────────────────────────────────────────────────

-- Bytes as a person reads them: as text if they are text.
CREATE FUNCTION shown(bytes bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  RETURN convert_from(bytes, 'UTF8');
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
  RETURN encode(bytes, 'escape');
END $$;

CREATE VIEW instances AS
SELECT shown(i.id) AS id, shown(i.name) AS name, i.status, to_timestamp(i.created_us / 1e6) AS created, to_timestamp(i.updated_us / 1e6) AS updated,
       shown(i.parent) AS parent, i.version, i.history_length, shown(i.holder) AS holder, i.claimed, i.attempt, i.parked, shown(i.problem) AS problem,
       (SELECT count(*) FROM inbox AS m WHERE m.target = i.key) AS messages,
       (SELECT count(*) FROM task AS t WHERE t.instance = i.key) AS tasks,
       (SELECT shown(data) FROM detail AS d WHERE d.instance = i.key AND d.kind = 'custom_status') AS custom_status,
       (SELECT shown(data) FROM detail AS d WHERE d.instance = i.key AND d.kind = 'output') AS output,
       (SELECT shown(data) FROM detail AS d WHERE d.instance = i.key AND d.kind = 'failure') AS failure,
       shown(i.execution) AS execution
FROM instance AS i;

-- One row an event. (json: jsonb refuses NUL.)
CREATE VIEW events AS
SELECT shown(i.id) AS instance, h.first + e.number - 1 AS number, e.event
FROM history AS h JOIN instance AS i ON i.key = h.instance
CROSS JOIN LATERAL json_array_elements(shown(h.payload)::json) WITH ORDINALITY AS e (event, number);

CREATE VIEW messages AS
SELECT shown(i.id) AS target, shown(m.id) AS id, shown(m.sender) AS sender, shown(m.execution) AS execution, m.control,
       to_timestamp(m.visible_us / 1e6) AS visible, shown(m.payload) AS payload
FROM inbox AS m LEFT JOIN instance AS i ON i.key = m.target;

CREATE VIEW tasks AS
SELECT shown(t.id) AS id, shown(t.name) AS name, shown(i.id) AS instance, shown(t.worker) AS worker, t.attempt, t.cancelled,
       to_timestamp(t.created_us / 1e6) AS created, shown(t.payload) AS payload
FROM task AS t LEFT JOIN instance AS i ON i.key = t.instance;

CREATE VIEW workers AS
SELECT shown(w.id) AS id, to_timestamp(w.until_us / 1e6) AS alive_until,
       (SELECT count(*) FROM instance AS i WHERE i.holder = w.id AND i.claimed) AS turns,
       (SELECT count(*) FROM task AS t WHERE t.worker = w.id) AS tasks
FROM worker AS w;
