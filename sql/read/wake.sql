-- Waking: publishers send NOTIFY only if the channel has a sleeper, a reader that asked to be woken.
--
-- NOTIFY takes a lock that serialises every notifying commit of the cluster, through its flush. So a
-- publisher notifies only if the channel has a row in hark.sleepers that has not expired. A reader that reads
-- all the time has no row. Looking for that row costs a third of a publish, so gates stand in front of the
-- rows: 64 sequences whose values have 64 bits each. A channel's hash names one bit. It is 0, the gate is
-- shut, if no reader sleeps on any channel with that bit. With 100 sleeping readers of other channels, one
-- channel in 40 has an open gate and no reader. Its publishers look for a row in vain, and do not notify.
--
-- To find a channel's gate costs as much as to look at it. So one more sequence, the front gate, stands before
-- them: each of its bits is 1 if that bit of any gate is. Publishers of most channels look no further if few
-- readers sleep. With 100 of them, 4 channels in 5 have to look at their own gate too.
--
-- A reader of all channels would open all gates. So it does not sleep: it looks at the log every now and then.
--
-- A publisher may look before a sleeper's row is there, and commit after the sleeper has looked. Two rules
-- keep the reader from missing the notification:
--   1. A publisher has its transaction number and its lock on the log before it looks at the gate. The gate's
--      value is current in any snapshot. The publisher looks for the row in a later statement.
--   2. A sleeper opens its gates and commits its row. Then it asks hark.publishers which transactions hold
--      such a lock. It looks again and again until the last of them has ended, and once more.
-- A publisher that is not among them had either ended or takes its lock later. If it had ended, the sleeper's
-- next look finds its rows. If it locks later, it finds the gate open and sees the row. (Locks tell this at
-- once: a snapshot does not list a transaction whose number is its xmax.) In REPEATABLE READ a publisher sees
-- an old state of the rows, so there an open gate is enough. Readers also poll, as a safety net.
--
-- Gates are not part of a transaction. They are opened before others can see the row, and shut after the
-- row has gone.

-- All gates, at the indices that hark.gate_of computes.
create or replace function hark.gates() returns regclass[]
language sql immutable
as $$
  select '[-32:31]={
    hark.gate_00, hark.gate_01, hark.gate_02, hark.gate_03, hark.gate_04, hark.gate_05, hark.gate_06, hark.gate_07,
    hark.gate_08, hark.gate_09, hark.gate_10, hark.gate_11, hark.gate_12, hark.gate_13, hark.gate_14, hark.gate_15,
    hark.gate_16, hark.gate_17, hark.gate_18, hark.gate_19, hark.gate_20, hark.gate_21, hark.gate_22, hark.gate_23,
    hark.gate_24, hark.gate_25, hark.gate_26, hark.gate_27, hark.gate_28, hark.gate_29, hark.gate_30, hark.gate_31,
    hark.gate_32, hark.gate_33, hark.gate_34, hark.gate_35, hark.gate_36, hark.gate_37, hark.gate_38, hark.gate_39,
    hark.gate_40, hark.gate_41, hark.gate_42, hark.gate_43, hark.gate_44, hark.gate_45, hark.gate_46, hark.gate_47,
    hark.gate_48, hark.gate_49, hark.gate_50, hark.gate_51, hark.gate_52, hark.gate_53, hark.gate_54, hark.gate_55,
    hark.gate_56, hark.gate_57, hark.gate_58, hark.gate_59, hark.gate_60, hark.gate_61, hark.gate_62, hark.gate_63
  }'::pg_catalog.regclass[]
$$;

-- The gate of a channel. The next function tells which of its bits: hash & 63, counted from the sign bit.
create or replace function hark.gate_of(channel text) returns regclass
language sql immutable
as $$ select (hark.gates())[pg_catalog.hashtext($1 collate pg_catalog."C") operator(pg_catalog.>>) 26] $$;

-- Whether a reader may sleep on any channel with this one's bit. If so, look at the channel's own gate. That is another
-- statement, because one that is not reached costs nothing, and a part of a statement does.
create or replace function hark.is_front_gate_open(channel text) returns boolean
language sql volatile
as $$
  select pg_catalog.pg_sequence_last_value('hark.front_gate'::pg_catalog.regclass)
    operator(pg_catalog.<<) (pg_catalog.hashtext($1 collate pg_catalog."C") operator(pg_catalog.&) 63)
    operator(pg_catalog.<) 0
$$;

-- Whether a reader may sleep on a channel. PostgreSQL inlines these functions, so a publisher evaluates one
-- expression. Each function and operator in it costs 1 % of a publish: the shift moves the channel's bit
-- to the sign, which saves one. The value of a gate that was never opened is null, which counts as shut.
create or replace function hark.is_gate_open(channel text) returns boolean
language sql volatile
as $$
  select pg_catalog.pg_sequence_last_value(hark.gate_of($1))
    operator(pg_catalog.<<) (pg_catalog.hashtext($1 collate pg_catalog."C") operator(pg_catalog.&) 63)
    operator(pg_catalog.<) 0
$$;

-- The gates of a set of channels, each with the bits of these channels and its value; the front gate too.
create or replace function hark.gates_of(names text[]) returns table (gate regclass, bits bigint, value bigint)
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select g.gate, coalesce(bit_or(1::bigint << (63 - (hashtext(n.name collate "C") & 63))), 0),
    coalesce(pg_sequence_last_value(g.gate), 0)
  from unnest('hark.front_gate'::regclass || hark.gates()) g (gate)
  left join unnest($1) n (name) on g.gate = any (array['hark.front_gate', hark.gate_of(n.name)])
  group by g.gate
$$;

-- Makes a reader a sleeper: publishers wake it for these channels for lasting_ms milliseconds.
-- Call it again to stay one. Returns whether the reader was a sleeper for these channels all the time
-- already. If not, the caller goes on as the head of this file says. Call it in a transaction of its own:
-- publishers see only what has committed.
--
-- Removes other sleepers that have expired, or whose LISTEN session has ended.
create or replace function hark.sleep(sleeper uuid, channels text[], session bigint, lasting_ms integer) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  names constant text[] := hark.as_set(channels);
  covered boolean;
begin
  if channels is null then
    raise exception 'a reader of all channels cannot sleep: it would open every gate'
      using errcode = 'HK006', hint = 'Name the channels, or look at the log from time to time.';
  end if;
  -- Locks are taken in this order: the own rows, the gates, the rows of others. Only the first two are waited for. A
  -- session that held rows of others while it waited for its own would deadlock with one that does the same.
  perform from hark.sleepers s where s.sleeper = $1 order by s.channel for update;
  select count(*) = cardinality(names) into covered
  from hark.sleepers s where s.sleeper = $1 and s.until > clock_timestamp();
  if not covered or exists (select from hark.gates_of(names) g where g.value & g.bits <> g.bits) then
    covered := false;
    -- Held until commit: another session cannot see this row yet, and would shut the gates.
    perform hark.hold_gates();
    perform setval(g.gate, g.value | g.bits) from hark.gates_of(names) g where g.value & g.bits <> g.bits;
  end if;
  insert into hark.sleepers (channel, sleeper, session, until)
  select n.name, $1, $3, clock_timestamp() + make_interval(secs => $4 / 1000.0)
  from unnest(names) n (name)
  on conflict on constraint sleepers_pkey do update set session = excluded.session, until = excluded.until;
  perform hark.forget_sleepers($1);
  return covered;
end
$$;

-- Removes sleepers that have expired, or whose LISTEN session has ended, but one. Waits for no lock.
create or replace function hark.forget_sleepers(besides uuid default null) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  delete from hark.sleepers s
  using (
    select x.channel, x.sleeper from hark.sleepers x
    where x.sleeper is distinct from $1
      and (x.until <= clock_timestamp()
        or case when x.session is null then false else pg_try_advisory_xact_lock_shared(x.session) end)
    for update skip locked
  ) gone
  where s.channel = gone.channel and s.sleeper = gone.sleeper;
end
$$;

-- Keeps sleepers of one LISTEN session asleep, all in one call. Returns for how many channels each was renewed. If
-- that is not every channel of a sleeper, its row has expired or is being removed, and it calls hark.sleep. Waits for
-- no lock. The gates need no look: they are open as long as a row is there.
create or replace function hark.stay_asleep(sleepers uuid[], session bigint, lasting_ms integer)
returns table (sleeper uuid, channels integer)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
  return query
  with asleep as materialized (
    select s.channel, s.sleeper from hark.sleepers s
    where s.sleeper = any ($1) and s.session = $2 and s.until > clock_timestamp()
    for update skip locked
  ),
  renewed as (
    update hark.sleepers s set until = clock_timestamp() + make_interval(secs => $3 / 1000.0)
    from asleep a where s.channel = a.channel and s.sleeper = a.sleeper
    returning s.sleeper
  )
  select r.sleeper, count(*)::integer from renewed r group by r.sleeper;
end
$$;

create or replace function hark.hold_gates() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  lock table hark.gate_lock in share update exclusive mode;
end
$$;

-- Ends a reader's sleep: publishers no longer wake it. Call hark.shut_gates once this has committed.
create or replace function hark.wake_up(sleeper uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform from hark.sleepers s where s.sleeper = $1 order by s.channel for update;
  delete from hark.sleepers s where s.sleeper = $1;
end
$$;

-- Shuts the gates of channels that have no row. An expired row still counts, because it may be about to be
-- renewed. Does nothing in a transaction that has a number. It may have removed rows and may roll back, but a
-- gate that was shut would stay shut.
create or replace function hark.shut_gates() returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  names text[];
begin
  if pg_current_xact_id_if_assigned() is not null or not starts_with(current_setting('transaction_isolation'), 'read ') then
    return;
  end if;
  perform hark.hold_gates();
  select array_agg(distinct s.channel) into names from hark.sleepers s;
  perform setval(g.gate, g.bits) from hark.gates_of(names) g where g.value <> g.bits;
end
$$;

-- The transactions that may have published and have not ended. They hold a lock on the log like a writer's.
-- With `among`, those of that list that have not ended. A transaction releases the lock on its own number
-- only after all sessions see that it has ended.
--
-- PREPARE moves locks one partition of the lock table at a time. For a moment, a transaction's own lock
-- and its lock on the log seem to belong to two transactions. So a transaction without a process
-- counts, unless it is of another database. If a lock on the log has neither process nor transaction,
-- every transaction counts.
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

-- Wakes the sleepers of a channel with an open gate, for a transaction that has published on it in an
-- earlier statement. In REPEATABLE READ it sees the rows as they were, so there the gate is enough.
--
-- Expiry is compared with the statement's clock, not with the current time. If a row is renewed after the
-- snapshot, this statement sees its old state, which was valid at that time.
--
-- One channel a call and no FROM: the cost is then the same for any channel, so PostgreSQL plans it once.
-- Planning at each call takes ten times as long as running. Sequential scans are off, because the plan
-- outlives the few rows it was made for.
create or replace function hark.wake_one(channel text) returns void
language plpgsql volatile set enable_seqscan = off
as $$
declare
  awaited pg_catalog.bool;
begin
  if pg_catalog.starts_with(pg_catalog.current_setting('transaction_isolation'), 'read ') then
    awaited := exists (select from hark.sleepers s
      where s.channel operator(pg_catalog.=) ($1 collate pg_catalog."C")
        and s.until operator(pg_catalog.>) pg_catalog.statement_timestamp());
    if not awaited then
      return;
    end if;
  end if;
  -- A full NOTIFY queue fails the commit. Near that point the readers' polling has to suffice.
  if coalesce(pg_catalog.current_setting('hark.wake', true), '') operator(pg_catalog.<>) 'off'
    and pg_catalog.pg_notification_queue_usage() operator(pg_catalog.<) 0.5
  then
    perform pg_catalog.pg_notify('hark', $1);
  end if;
end
$$;

-- Wakes the sleepers of a channel on which this transaction has published through hark.published. Call it in
-- a statement after the insert: the transaction has its number then.
create or replace function hark.wake(channel text) returns void
language plpgsql volatile security definer
as $$
begin
  if hark.is_front_gate_open($1) then
    if hark.is_gate_open($1) then
      perform hark.wake_one($1);
    end if;
  end if;
end
$$;
comment on function hark.wake(text) is
  'Wakes readers that sleep on a channel on which an earlier statement of this transaction has published.';

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
