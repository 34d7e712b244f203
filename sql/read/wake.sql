-- Waking: NOTIFY only where somebody sleeps.
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

-- From here on this sleeper is woken for these channels (null: all) for so long, unless it does this again. Returns
-- whether that was so all the time already; where not, the caller goes on as the head of this file says. In a
-- transaction of its own, as only what has committed is seen. Who has gone without a word is cleared away: those
-- that have expired, or whose LISTEN session has ended.
create or replace function hark.sleep(sleeper uuid, channels text[], session bigint, lasting_ms integer) returns boolean
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
create or replace function hark.gate_bits(names text[]) returns bigint
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select case when '' = any (names) then -1::bigint
    else coalesce(bit_or(1::bigint << (hashtext(n.name collate "C") & 63)), 0) end
  from unnest(names) n (name)
$$;

create or replace function hark.hold_gate() returns void
language sql volatile set search_path = pg_catalog, pg_temp
as $$ select pg_advisory_xact_lock(hashtextextended('hark.gate', 5237)) $$;

-- This sleeper is not to be woken any more. Then hark.shut_gate, once this has committed.
create or replace function hark.rise(sleeper uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from hark.sleepers s where s.sleeper = $1;
end
$$;

-- Shuts the gate for groups of channels that have no row, also none that has expired: such a one may be about to be
-- renewed. Not in a transaction that has removed rows: it may roll back, and what this does stays.
create or replace function hark.shut_gate() returns void
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
create or replace function hark.publishers(among xid[] default null) returns xid[]
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

-- Wakes who sleeps on a channel, for a transaction that has published on it in an earlier statement. By the clock of
-- the statement, not of the moment: a row that is renewed after the snapshot, so not seen as it is now, was valid
-- then. Two probes of the index: one for both costs twice as much where there are 100 rows. One channel at a time and
-- no FROM: what this costs is then the same for any, so that it is planned once and not by each call, which takes ten
-- times as long as to run it; and by the index, as the plan outlives the few rows it was made for.
create or replace function hark.wake_one(channel text) returns void
language plpgsql volatile set enable_seqscan = off
as $$
begin
  perform pg_catalog.pg_notify('hark', $1)
  where (pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.<>) 'read committed'
      or exists (select from hark.sleepers s
        where s.channel operator(pg_catalog.=) ($1 collate pg_catalog."C")
          and s.until operator(pg_catalog.>) pg_catalog.statement_timestamp())
      or exists (select from hark.sleepers s
        where s.channel operator(pg_catalog.=) ''
          and s.until operator(pg_catalog.>) pg_catalog.statement_timestamp()))
    and coalesce(pg_catalog.current_setting('hark.wake', true), '') operator(pg_catalog.<>) 'off'
    -- A full NOTIFY queue fails the commit, so near one the readers' polling has to do.
    and pg_catalog.pg_notification_queue_usage() operator(pg_catalog.<) 0.5;
end
$$;

-- Wakes who waits for a channel on which this transaction has published by hark.published. Called in a statement
-- after the insert: the transaction has its number then.
create or replace function hark.wake(channel text) returns void
language plpgsql volatile security definer
as $$
begin
  if pg_catalog.pg_sequence_last_value('hark.gate'::pg_catalog.regclass)
    operator(pg_catalog.&) (1::pg_catalog.int8 operator(pg_catalog.<<)
      (pg_catalog.hashtext($1 collate pg_catalog."C") operator(pg_catalog.&) 63))
    operator(pg_catalog.<>) 0
  then
    perform hark.wake_one($1);
  end if;
end
$$;
comment on function hark.wake(text) is
  'Wakes who waits for a channel on which an earlier statement of this transaction has published, as triggers do.';

create or replace function hark.wake_all(channels text[]) returns void
language plpgsql volatile
as $$
declare
  awaited pg_catalog.text;
begin
  foreach awaited in array coalesce($1, '{}') loop
    perform hark.wake(awaited);
  end loop;
end
$$;
