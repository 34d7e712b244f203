-- Hark 025: waking: NOTIFY only where somebody sleeps.
--
-- NOTIFY takes a lock that serialises every notifying commit of the cluster, through its flush. So a publisher
-- notifies only for a channel that somebody sleeps on: a row of hark.sleepers that has not expired. Who reads all
-- the time has none. To look for that row costs a quarter of a publish, so in front of the rows there is a gate, a
-- sequence whose value is a bit for each of 64 groups of channels: shut where nobody sleeps on one of the group.
--
-- A publisher may have looked before somebody slept and commit when the sleeper has looked too. So
--   1. a publisher has its transaction number and its lock on the log before it looks at the gate, whose value is
--      what it is at that moment, in any snapshot; and looks for the row in a later statement;
--   2. a sleeper opens the gate and commits its row, then asks hark.publishers who holds such a lock, and looks again
--      and again until the last of those has ended, and once more.
-- Who is not among them had either ended, and is found by the look after; or took its lock later, finds the gate
-- open, and sees the row. (By locks, which tell at once: a snapshot does not list a transaction whose number is its
-- xmax.) In REPEATABLE READ rows are seen as of old, so there an open gate is enough. Readers poll underneath it all.
--
-- The gate is no part of a transaction: it is opened before a row is there for others, and shut after it has gone.

set local search_path = pg_catalog, pg_temp;
insert into hark.migrations (version, name) values (25, 'waking');

-- Unlogged on purpose: setting a row waits for no flush, and a crash, which ends every sleeper's session, empties it.
-- Every publisher looks here: so it compares by "C", and has few rows a page, so that a renewed row finds room on its
-- own. The versions that a long transaction keeps from being pruned lie in the way, so rows are to be written seldom.
create unlogged table hark.sleepers (
  channel text collate "C" not null,   -- '' is every channel
  sleeper uuid not null,
  session bigint,                      -- advisory lock held by its LISTEN session
  until timestamptz not null,
  primary key (channel, sleeper)
) with (fillfactor = 10);
comment on table hark.sleepers is 'Who is to be woken by NOTIFY for which channel; publishers look here.';

create sequence hark.gate minvalue -9223372036854775808 cache 1;
select setval('hark.gate', 0);

-- A program that was started before this only LISTENs: for a day it is woken as before. Then it polls.
insert into hark.sleepers (channel, sleeper, until)
select '', '00000000-0000-0000-0000-000000000000', clock_timestamp() + interval '1 day'
where exists (select from hark.workers);
select setval('hark.gate', -1) from hark.sleepers;

-- From here on this sleeper is woken for these channels (null: all) for so long, unless it does this again. Returns
-- whether that was so all the time already; where not, the caller goes on as the head of this file says. In a
-- transaction of its own, as only what has committed is seen. Who has gone without a word is cleared away: those
-- that have expired, or whose LISTEN session has ended.
create function hark.sleep(sleeper uuid, channels text[], session bigint, lasting_ms integer) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  names constant text[] := hark.as_set(coalesce(channels, array['']));
  bits constant bigint := hark.gate_bits(names);
  covered boolean;
begin
  delete from hark.sleepers s
  using (
    select x.channel, x.sleeper from hark.sleepers x
    where x.sleeper <> $1
      and (x.until <= clock_timestamp()
        or case when x.session is null then false else pg_try_advisory_xact_lock_shared(x.session) end)
    for update skip locked
  ) gone
  where s.channel = gone.channel and s.sleeper = gone.sleeper;
  perform from hark.sleepers s where s.sleeper = $1 order by s.channel for update;
  select count(*) = cardinality(names) into covered
  from hark.sleepers s where s.sleeper = $1 and s.until > clock_timestamp();
  if not covered or pg_sequence_last_value('hark.gate') & bits <> bits then
    covered := false;
    -- Until this has committed nobody shuts the gate, who would not know of it.
    perform hark.hold_gate();
    perform setval('hark.gate', pg_sequence_last_value('hark.gate') | bits);
  end if;
  insert into hark.sleepers (channel, sleeper, session, until)
  select n.name, $1, $3, clock_timestamp() + make_interval(secs => $4 / 1000.0)
  from unnest(names) n (name)
  on conflict on constraint sleepers_pkey do update set session = excluded.session, until = excluded.until;
  return covered;
end
$$;

-- The groups of channels, as the gate has them; '' is all.
create function hark.gate_bits(names text[]) returns bigint
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select case when '' = any (names) then -1::bigint
    else coalesce(bit_or(1::bigint << (hashtext(n.name collate "C") & 63)), 0) end
  from unnest(names) n (name)
$$;

create function hark.hold_gate() returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$ select pg_advisory_xact_lock(hashtextextended('hark.gate', 5237)) $$;

-- This sleeper is not to be woken any more. Then hark.shut_gate, once this has committed.
create function hark.rise(sleeper uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from hark.sleepers s where s.sleeper = $1;
end
$$;

-- Shuts the gate for groups of channels that have no row, also none that has expired: such a one may be about to be
-- renewed. Not in a transaction that has removed rows: it may roll back, and what this does stays.
create function hark.shut_gate() returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  bits bigint;
begin
  if pg_current_xact_id_if_assigned() is not null or current_setting('transaction_isolation') <> 'read committed' then
    return;
  end if;
  perform hark.hold_gate();
  select hark.gate_bits(coalesce(array_agg(s.channel), '{}')) into bits from hark.sleepers s;
  if bits <> pg_sequence_last_value('hark.gate') then
    perform setval('hark.gate', bits);
  end if;
end
$$;

-- Which transactions may have published and have not ended: those that hold a lock on the log like a writer's, or
-- those of `among` that are left. A transaction's own lock goes after all see that it has ended. PREPARE hands locks
-- over one partition of the lock table at a time, so that for a moment a transaction's own lock and the one on the
-- log seem to be two transactions': what has no process counts, unless it is of another database, and where a lock on
-- the log has nobody, everybody.
create function hark.publishers(among xid[] default null) returns xid[]
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  with locks as materialized (
    select l.locktype, l.virtualtransaction, l.transactionid, l.pid, l.mode,
      l.locktype = 'relation' and l.relation = 'hark.log'::regclass and l.mode <> 'AccessShareLock'
        and l.database = (select d.oid from pg_database d where d.datname = current_database()) as writes
    from pg_locks l where l.granted
  ),
  numbered as materialized (
    select x.transactionid, x.virtualtransaction, x.pid from locks x
    where x.locktype = 'transactionid' and x.mode = 'ExclusiveLock'
  )
  select coalesce(array_agg(n.transactionid), '{}')
  from numbered n
  where case when among is not null then n.transactionid = any (among)
    else (
        n.pid is null
        or exists (select from locks w where w.writes and w.virtualtransaction = n.virtualtransaction)
        or exists (select from locks w where w.writes and w.pid is null
          and not exists (select from numbered o where o.virtualtransaction = w.virtualtransaction))
      ) and not exists (
        select from pg_prepared_xacts x where x.transaction = n.transactionid and x.database <> current_database()
      )
    end
$$;

revoke execute on all functions in schema hark from public;
