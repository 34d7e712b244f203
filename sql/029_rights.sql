-- Hark 029: what is delayed can be seen; who may call what.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (29, 'rights');

-- How many notifications wait for their time, counted up to `most`, and when the first is due: in the past where
-- nobody runs who would deliver it.
create function hark.delayed_status(most bigint default 100000) returns table (waiting bigint, next_at timestamptz)
language sql stable security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
  select (select count(*) from (select from hark.delayed limit $1) d),
    (select d.deliver_at from hark.delayed d order by d.deliver_at, d.number limit 1)
$$;

create or replace function hark.grant_consume(role_name text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select hark.grant_functions(role_name, array[
    'version', 'rebase', 'waymark', 'timeline', 'start_position', 'window_open', 'window_read', 'page', 'window_advance',
    'channels_of', 'register', 'attend', 'claim', 'lost_owners', 'window', 'merged', 'is_behind', 'pass',
    'acknowledge', 'begin_handling', 'owner_key', 'finish', 'trying', 'release', 'leave', 'waiting_of',
    'waiting_rows', 'done_of', 'feed', 'deliver_due', 'nudge', 'status', 'partitions_of',
    'workers_of', 'heads_of', 'replays_of', 'holding', 'delayed_status', 'watches', 'sleep', 'rise', 'shut_gate', 'publishers', 'extend'
  ])
$$;

create or replace function hark.grant_operate(role_name text) returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select hark.grant_functions(role_name, array[
    'version', 'rebase', 'status', 'delayed_status', 'partitions_of', 'workers_of', 'heads_of', 'replays_of', 'holding', 'seek',
    'replay', 'pause', 'resume', 'dead_letters', 'retry_dead', 'discard_dead', 'repartition', 'remove_consumer',
    'drop_inactive', 'clean', 'watches', 'extend', 'empty_leaf', 'has_older', 'tidy', 'drop_leaves'
  ])
$$;

revoke execute on all functions in schema hark from public;

-- Who had rights before has those that their programs need now.
select hark.grant_consume(r.rolname)
from pg_proc p cross join lateral aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
where p.oid = 'hark.waymark(bigint, interval)'::regprocedure and a.grantee <> p.proowner;
select hark.grant_operate(r.rolname)
from pg_proc p cross join lateral aclexplode(p.proacl) a join pg_roles r on r.oid = a.grantee
where p.proname = 'repartition' and p.pronamespace = 'hark'::regnamespace and a.grantee <> p.proowner;
