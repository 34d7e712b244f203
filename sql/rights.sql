-- Which role may call which function.

-- The lists of functions, each with the kinds of rights that include it. Every function is in one of them.
create or replace function hark.function_lists() returns table (kinds text[], names text[])
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  values
    ('{publish, read, consume, operate, observe}'::text[], array[
      'version', 'functions_digest', 'watches'
    ]),
    -- What every reader of the log calls. It holds no right to what consumers are or do.
    ('{read, consume, operate, observe}', array['pace', 'log_facts', 'look_here', 'publishers']),
    ('{consume, operate, observe}', array[
      'status', 'sleeping', 'partitions_of', 'workers_of', 'heads_of', 'replays_of', 'holding', 'delayed_status', 'schedules',
      'inbox_status', 'inbox_dead_in_outline', 'relay_status', 'relay_endpoints', 'retention_settings', 'measure'
    ]),
    ('{operate, observe}', array[
      'notifications', 'notification', 'sees_contents', 'verdicts', 'log_channels', 'deletions', 'delayed_notifications',
      'dead_letters', 'dead_count', 'dead_groups', 'list_acts', 'waits_behind'
    ]),
    -- Without payloads and headers: see operate/log.sql.
    ('{observe}', array[
      'notifications_in_outline', 'notification_in_outline', 'delayed_in_outline', 'dead_in_outline', 'schedules_in_outline'
    ]),
    ('{consume, operate}', array[
      'schedules_in_full', 'extend', 'apply_retention', 'inbox_dead_letters', 'inbox_settle', 'window', 'thin_marks'
    ]),
    -- Reading the log without a consumer, as hark tail and streams do.
    ('{read, consume, operate}', array[
      'rebase', 'cut', 'look', 'wants_cut', 'content_of', 'start_position', 'resume_position', 'resume_mark', 'page',
      'deliver_due', 'sleep', 'stay_asleep', 'wake_up', 'shut_gates'
    ]),
    ('{publish, operate}', array['cancel_delayed', 'unschedule']),
    ('{publish}', array[
      'notify', 'smart_notify', 'notify_many', 'notify_at', 'cancel_own_delayed', 'notify_once',
      'notify_each', 'schedule', 'remove_own_schedule', 'set_context', 'notify_data_change', 'watch', 'rewatch', 'watch_sql',
      'unwatch', 'forget_watch', 'snapshot', 'restart_snapshot',
      -- Functions that those above, and the triggers that they make, call with the rights of
      -- the table's owner.
      'wake', 'with_context', 'json_value', 'json_tried', 'base_type', 'is_plain', 'as_base',
      'output_of', 'value_of', 'key_text', 'differs', 'size_of', 'listed', 'key_columns',
      'watched_columns', 'shape_query', 'composites_of', 'in_order', 'rows_in_order', 'without_virtual', 'row_value', 'is_whole', 'described',
      'columns_in', 'in_row', 'id_value', 'with_id', 'key_value', 'keys_differ', 'is_wide', 'watch_statements', 'tree_of',
      'is_watch_function', 'watch_mode', 'require_watchable', 'require_columns',
      'require_condition', 'watch_definition', 'watched_root', 'watch_body', 'publishing', 'known_watches',
      'known_watch', 'delete_watch', 'drop_watch_function',
      'watch_triggers', 'drift_of', 'watch_script', 'watch_function_script', 'watch_function_name',
      'is_paged', 'snapshot_body', 'snapshot_function', 'drop_snapshot_function', 'snapshot_page',
      'prepare_snapshot'
    ]),
    ('{consume}', array[
      'channels_of', 'register', 'common_window', 'heartbeat', 'claim', 'lost_owners', 'is_behind', 'enter',
      'acknowledge', 'acknowledge_all', 'begin_handling', 'owner_key', 'finish', 'begin_alone', 'release', 'leave', 'yield_to_newer',
      'fall_asleep', 'awake',
      'report_halts', 'waiting_of', 'waiting_rows', 'done_of', 'move_replays', 'request_look',
      'next_schedules', 'run_schedule', 'turn_partitions', 'relay_place', 'relay_unhandled',
      'keep_relay_places', 'keep_relay_endpoints', 'inbox_place', 'inbox_take', 'tell_trouble'
    ]),
    ('{operate}', array[
      'seek', 'replay', 'replay_count', 'replay_ids', 'redrive_endpoint', 'pause', 'resume', 'retry', 'retry_page', 'discard', 'discard_page',
      'whereabouts', 'repartition', 'remove_consumer', 'drop_inactive', 'clean', 'empty_segment', 'has_older',
      'tidy', 'drop_segments', 'cancel_any_delayed', 'remove_any_schedule', 'set_retention', 'unset_retention',
      'delete_notifications', 'record_anew', 'preview',
      'notifications_in_full', 'notification_in_full', 'delayed_in_full', 'dead_in_full'
    ]),
    -- Internal: other functions call them, with the rights of the schema's owner.
    ('{}', array[
      'acting_role', 'record_act', 'record_forced', 'record_upon', 'chosen_by',
      'add_replay', 'add_segments', 'advance_idle', 'ask_to_store', 'as_interval', 'as_set', 'bury', 'changed', 'check_dead', 'check_kind', 'cleaned',
      'contents', 'dead_matching', 'delete_copies', 'delete_ids', 'id_range', 'drop_watch_row', 'error_text', 'failures_page', 'last_drawn_id',
      'forget_dedupe', 'forget_processes', 'forget_sleepers', 'forget_workers', 'free_for', 'is_ahead', 'is_defined_as', 'function_lists', 'functions_for', 'gate_of', 'granted', 'gates', 'gates_of', 'grant_consume',
      'grant_observe', 'grant_operate', 'grant_publish', 'grant_read', 'grant_rights', 'halted_of', 'has_content', 'has_rights_of', 'hidden', 'hold_gates', 'holders_of', 'id_at',
      'id_before', 'id_between', 'in_context', 'in_short', 'incarnation', 'is_alive', 'is_asleep', 'is_converted', 'is_front_gate_open', 'is_gate_open', 'is_newer', 'is_of_a_value', 'is_passable', 'keep_marks', 'last_served', 'life', 'mark_before', 'named_mark',
      'segments', 'matches', 'may_match', 'new_mark', 'newest_mark', 'next_segment', 'owner_of', 'partition_of', 'passed', 'postpone_damaged', 'process_name', 'raise_fenced',
      'raise_lost', 'raise_lows', 'raise_no_consumer', 'refuse_definition', 'refuse', 'refuse_ahead', 'refuse_time', 'renew_grants',
      'remove_marks', 'renew_watches', 'retention_due', 'revoke_rights', 'require_consumer', 'require_marks', 'require_rights_of', 'require_schedule_rights', 'require_fresh_snapshot', 'require_read_committed',
      'sendable', 'settle', 'start_id_of', 'stored_bytes', 'survives', 'tag_of', 'take_dedupe', 'take_free', 'try_lock',
      'unread_of', 'waiting_matching', 'wake_all', 'wake_one'
    ])
$$;

-- The functions of a kind of rights.
create or replace function hark.functions_for(kind text) returns text[]
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select array_agg(n.name order by n.name)
  from hark.function_lists() l cross join lateral unnest(l.names) n (name)
  where $1 = any (l.kinds)
$$;

-- Grants a role the functions of a kind. Stores that, so that an upgrade grants the role the functions that
-- are added then.
create or replace function hark.grant_rights(role_name text, kind text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  f regprocedure;
begin
  if not exists (select from pg_roles r where r.rolname = role_name) then
    raise exception 'role "%" does not exist', role_name
      using errcode = 'HK006', hint = 'Create the role first. Its name is case-sensitive here.';
  end if;
  execute format('grant usage on schema hark to %I', role_name);
  for f in
    select p.oid from pg_proc p
    where p.pronamespace = 'hark'::regnamespace and p.proname = any (hark.functions_for(kind))
  loop
    execute format('grant execute on function %s to %I', f, role_name);
  end loop;
  if kind = 'publish' then
    execute format('grant insert on hark.published to %I', role_name);
    -- By columns: with UPDATE or DELETE on the table, a role could lock it against readers.
    execute format('grant select on hark.watches to %I', role_name);
    execute format('grant insert (%1$s), update (%1$s) on hark.watches to %2$I',
      (select string_agg(quote_ident(a.attname), ', ') from pg_attribute a
        where a.attrelid = 'hark.watches'::regclass and a.attnum > 0 and not a.attisdropped), role_name);
  end if;
  insert into hark.grants as g (role, role_name, kind, server)
  select r.oid, r.rolname, $2, s.system_identifier from pg_roles r cross join pg_control_system() s where r.rolname = $1
  on conflict on constraint grants_pkey do update set role_name = excluded.role_name;
end
$$;

create or replace function hark.grant_publish(role_name text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$ select hark.grant_rights(role_name, 'publish') $$;
comment on function hark.grant_publish(text) is 'Lets a role publish. Run it as the owner of the schema.';

create or replace function hark.grant_read(role_name text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$ select hark.grant_rights(role_name, 'read') $$;
comment on function hark.grant_read(text) is
  'Lets a role read the log with payloads, as subscribe, tail and streams do, and run no consumer. Run it as the owner of '
  'the schema.';

create or replace function hark.grant_consume(role_name text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$ select hark.grant_rights(role_name, 'consume') $$;
comment on function hark.grant_consume(text) is
  'Lets a role read the log, register consumers and serve any of them, so such roles trust each other. Run '
  'it as the owner of the schema.';

create or replace function hark.grant_operate(role_name text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$ select hark.grant_rights(role_name, 'operate') $$;
comment on function hark.grant_operate(text) is
  'Lets a role look at, move, pause and remove every consumer, retry and discard what they fail on, read the '
  'log, and clean. Run it as the owner of the schema.';

create or replace function hark.grant_observe(role_name text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$ select hark.grant_rights(role_name, 'observe') $$;
comment on function hark.grant_observe(text) is
  'Lets a role look at consumers, the log without payloads and headers, dead letters and metrics, and change nothing. '
  'Run it as the owner of the schema.';

-- Takes from a role all that it was granted of Hark, of every kind.
create or replace function hark.revoke_rights(role_name text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from pg_roles r where r.rolname = role_name) then
    raise exception 'role "%" does not exist', role_name
      using errcode = 'HK006', hint = 'Look at its name, which is case-sensitive here.';
  end if;
  execute format('revoke all on all functions in schema hark from %I', role_name);
  execute format('revoke all on all tables in schema hark from %I', role_name);
  execute format('revoke all on schema hark from %I', role_name);
  delete from hark.grants g using hark.granted() k where k.role_name = $1 and k.place = g.ctid;
end
$$;
comment on function hark.revoke_rights(text) is
  'Takes every right to Hark from a role. Programs that run under it fail at their next call. Run it as the owner of the schema.';

-- What each role of this server was granted, by the name that it has now.
create or replace function hark.granted() returns table (place tid, role oid, role_name text, kind text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select g.ctid, r.oid, r.rolname::text, g.kind
  from hark.grants g cross join pg_control_system() s
  -- pg_upgrade keeps the numbers of roles, and makes another server of it.
  join pg_roles r on case
    when g.server = s.system_identifier or not exists (select from pg_roles n where n.rolname = g.role_name)
    then r.oid = g.role else r.rolname = g.role_name end
$$;

-- Grants each role what its kind of rights has in this version. What a plain REVOKE removed since stays
-- removed. A kind counts if the role may still call one of its functions that none of the role's other kinds has.
-- Rows of roles that are gone are deleted.
create or replace function hark.renew_grants() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  names text[];
  kinds text[];
begin
  with known as materialized (select distinct k.role, k.role_name, k.kind from hark.granted() k)
  select array_agg(k.role_name order by k.role_name, k.kind), array_agg(k.kind order by k.role_name, k.kind)
  into names, kinds
  from known k
  where exists (
    select from pg_proc p cross join lateral aclexplode(p.proacl) a
    where p.pronamespace = 'hark'::regnamespace and a.grantee = k.role and p.proname = any (hark.functions_for(k.kind))
      and not exists (
        select from known o where o.role = k.role and o.kind <> k.kind and p.proname = any (hark.functions_for(o.kind))
      )
  );
  delete from hark.grants;
  perform hark.grant_rights(n.role_name, n.kind) from unnest(names, kinds) n (role_name, kind);
end
$$;
