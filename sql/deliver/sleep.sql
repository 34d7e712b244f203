-- Workers that sleep (idle: "sleep"): they ask the server nothing, so that a server that suspends may do so.
--
-- A worker first lies down as a reader of its channels (read/wake.sql), for longer than it will sleep, so that
-- publishers notify it. Then it calls hark.fall_asleep. That looks once more, and tells when the worker has to wake at
-- the latest. What is delayed, scheduled, replayed or resumed after that is told by NOTIFY (hark.request_look).

-- Has a worker that has nothing to do fall asleep: gives its partitions back, removes it from the consumer's workers,
-- and its process if that is given. Notifies no worker: the others that are awake see it at their next heartbeat, and
-- others that sleep would wake for nothing.
--
-- Changes nothing if something is left to do, or due within least_ms: `asleep` is then false. Else wakes_in_ms says when
-- something is due, at most most_ms.
create or replace function hark.fall_asleep(
  consumer text, owner uuid, process uuid, session bigint, held integer[], epochs bigint[],
  least_ms integer, most_ms integer
) returns table (asleep boolean, wakes_in_ms double precision)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off
as $$
declare
  due_at timestamptz;
begin
  asleep := false;
  select least(
    clock_timestamp() + make_interval(secs => $8 / 1000.0),
    (select min(w.due_at) from hark.waiting w where w.consumer = $1 and w.state <> 'behind'),
    (select d.deliver_at from hark.delayed d order by d.deliver_at limit 1),
    (select s.next_at from hark.schedules s where s.next_at is not null order by s.next_at limit 1)
  ) into due_at;
  wakes_in_ms := extract(epoch from due_at - clock_timestamp())::double precision * 1000;
  if wakes_in_ms < $7
    or not exists (select from hark.workers w where w.consumer = $1 and w.owner = $2)
    or exists (select from hark.replays r where r.consumer = $1)
    or not exists (
      select from hark.consumers c where c.name = $1 and c.next_partitions is null and (
        c.paused_at is not null
        or not exists (select from hark.unread_of($1, 1, 1000) u where u.partition is not null)
      )
    )
  then
    return next;
    return;
  end if;
  perform from hark.partitions s where s.consumer = $1 and s.partition = any ($5) order by s.partition for update;
  update hark.partitions s set owner = null, crashes = 0, alone_id = null, suspect_id = null,
    suspect_ends = 0, served_at = clock_timestamp()
  from unnest($5, $6) h (partition, epoch)
  where s.consumer = $1 and s.partition = h.partition and s.owner = $2 and s.epoch = h.epoch;
  delete from hark.asleep a where a.consumer = $1 and not hark.is_asleep(a.session, a.wakes_at);
  insert into hark.asleep (consumer, owner, session, name, wakes_at)
  select w.consumer, w.owner, $4, w.name, due_at from hark.crew w where w.consumer = $1 and w.owner = $2
  on conflict on constraint asleep_pkey do update
    set session = excluded.session, name = excluded.name, since = excluded.since, wakes_at = excluded.wakes_at;
  asleep := true;
  delete from hark.workers w where w.consumer = $1 and w.owner = $2;
  delete from hark.processes p where p.id = $3;
  return next;
end
$$;

-- Ends the sleep of a worker.
create or replace function hark.awake(consumer text, owner uuid) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  delete from hark.asleep a where a.consumer = $1 and a.owner = $2;
end
$$;

-- Whether a worker still sleeps: its LISTEN session exists, or without one, it would not have had to wake by now.
create or replace function hark.is_asleep(session bigint, wakes_at timestamptz) returns boolean
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select case when $1 is null then $2 > clock_timestamp() - interval '1 minute'
    else not pg_try_advisory_xact_lock_shared($1) end
$$;

-- The consumers with workers that sleep: how many, since when the last of them, when the first wakes by itself, and
-- whether publishers wake one of them.
create or replace function hark.sleeping() returns table (
  consumer text, workers integer, since timestamptz, wakes_at timestamptz, listening boolean, name text
)
language sql volatile security definer set search_path = pg_catalog, pg_temp
as $$
  select a.consumer, count(*)::integer, max(a.since), min(a.wakes_at), bool_or(a.session is not null),
    (array_agg(a.name order by a.since desc))[1]
  from hark.asleep a
  where hark.is_asleep(a.session, a.wakes_at)
  group by a.consumer
$$;
comment on function hark.sleeping() is 'The consumers with workers that sleep until they are woken.';
