"""On PostgreSQL a claim is one call of this function: planned once a connection, one round trip, one transaction."""

from django.db import migrations

# Verdicts: `taken`, one row a task; `superseded`, another call of the worker asks now; `limited`, limits of people are
# set, which the slower way knows. No row: nothing to take, or the worker takes nothing. Each statement of a function
# sees what was committed before it, so `free` is right once the worker's row is locked. Sequential scans are off
# because plans are kept: one made while the table was empty must serve a long queue too.
CLAIM = """
CREATE FUNCTION taskrunner_claim(
    _worker uuid, _organization uuid, _call uuid, _begins boolean, _most integer,
    _now timestamp with time zone, _lease timestamp with time zone
) RETURNS TABLE (verdict text, mounts jsonb, task taskrunner_task)
LANGUAGE plpgsql SET enable_seqscan TO off AS $$
#variable_conflict use_column
DECLARE
    w taskrunner_worker;
    _cpu bigint; _memory bigint; _storage numeric; _gpus bigint;
    _ids uuid[];
BEGIN
    IF _begins THEN
        UPDATE taskrunner_worker SET claim_call = _call
            WHERE id = _worker AND organization_id = _organization RETURNING * INTO w;
    ELSE
        SELECT * INTO w FROM taskrunner_worker
            WHERE id = _worker AND organization_id = _organization FOR NO KEY UPDATE;
    END IF;
    IF w.id IS NULL OR w.wanted <> 'open' THEN
        RETURN;
    END IF;
    IF _call IS NOT NULL AND w.claim_call IS DISTINCT FROM _call THEN
        RETURN QUERY SELECT 'superseded', NULL::jsonb, NULL::taskrunner_task;
        RETURN;
    END IF;
    IF EXISTS (SELECT 1 FROM taskrunner_quota WHERE organization_id = _organization) THEN
        RETURN QUERY SELECT 'limited', NULL::jsonb, NULL::taskrunner_task;
        RETURN;
    END IF;
    SELECT w.cpu - coalesce(sum(cpu), 0), w.memory - coalesce(sum(memory), 0),
            greatest(0, w.storage - coalesce(sum(storage), 0)), greatest(0, w.gpus - coalesce(sum(gpus), 0))
        INTO _cpu, _memory, _storage, _gpus
        FROM taskrunner_task WHERE worker_id = _worker AND status IN ('claimed', 'running');
    IF _cpu <= 0 OR _memory <= 0 THEN
        RETURN;
    END IF;
    SELECT array_agg(id) INTO _ids FROM (
        SELECT id, sum(cpu) OVER f AS cpu, sum(memory) OVER f AS memory,
            sum(storage) OVER f AS storage, sum(gpus) OVER f AS gpus
        FROM (
            SELECT id, cpu, memory, storage, gpus, priority, queued_at FROM taskrunner_task
            WHERE organization_id = _organization AND status = 'queued'
                AND not_before <= _now AND cancel_requested_at IS NULL
                AND cpu <= _cpu AND memory <= _memory AND storage <= _storage AND gpus <= _gpus
                AND w.labels @> labels
            ORDER BY priority DESC, queued_at, id LIMIT _most
            FOR NO KEY UPDATE SKIP LOCKED
        ) candidate WINDOW f AS (ORDER BY priority DESC, queued_at, id)
    ) together
    WHERE cpu <= _cpu AND memory <= _memory AND storage <= _storage AND gpus <= _gpus;
    IF _ids IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY UPDATE taskrunner_task t SET fence = t.fence + 1, attempt = t.attempt + 1, status = 'claimed',
            worker_id = _worker, claimed_at = _now, lease_expires_at = _lease, started_at = NULL,
            reason = 'Starting on ' || w.name, exit_code = NULL, exit_class = '', progress = NULL, progress_words = ''
        WHERE t.id = ANY (_ids) RETURNING 'taken', w.host_mounts, t;
    INSERT INTO taskrunner_attempt (task_id, number, worker_id, worker_label, claimed_at, exit_class, reason)
        SELECT id, fence, _worker, w.name, _now, '', '' FROM taskrunner_task WHERE id = ANY (_ids);
    IF w.idle_since IS NOT NULL THEN
        UPDATE taskrunner_worker SET idle_since = NULL WHERE id = _worker;
    END IF;
END $$
"""
GONE = "DROP FUNCTION taskrunner_claim(uuid, uuid, uuid, boolean, integer, timestamptz, timestamptz)"


def make(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(CLAIM, params=None)


def remove(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(GONE, params=None)


class Migration(migrations.Migration):
    dependencies = [("taskrunner", "0004_samples_outlive_workers")]
    operations = [migrations.RunPython(make, remove)]
