-- Changing the number of a consumer's partitions.

-- Changes the number of a consumer's partitions. With one partition, or with all of them at the same
-- position, it happens at once. Otherwise the workers first release all partitions. Then they read each to
-- one common mark, the barrier. The last worker to get there makes the change (hark.turn_partitions). No
-- key is overtaken, because waiting notifications move along.
--
-- Another number may be given while a change is pending. The current number takes the change back: positions that differ are
-- nothing special. A partition that is halted would not reach the barrier, and all others would wait there for
-- it. So the change is refused, or taken back once a worker reports it (hark.report_halts).
create or replace function hark.repartition(consumer text, partitions integer) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
  h record;
begin
  if partitions is null or partitions < 1 or partitions > 1024 then
    raise exception 'a consumer cannot have % partitions', coalesce(partitions::text, 'null')
      using errcode = 'HK006', hint = 'Give a number from 1 to 1024.';
  end if;
  select * into c from hark.consumers k where k.name = $1 for no key update;
  if not found then
    perform hark.raise_no_consumer($1);
  end if;
  if c.partitions > 1 and c.partitions <> $2 then
    select * into h from hark.halted_of($1) limit 1;
    if found then
      raise exception 'partition % of consumer "%" is held up by notification %, after % attempts (%): it cannot read to the point at which the number of partitions changes, and all others would wait there',
        h.partition, $1, h.id, h.attempts, coalesce(h.last_error, 'no error')
        using errcode = 'HK008',
          hint = 'Let the notification succeed, or give it up with hark discard. Then change the number.';
    end if;
  end if;
  if c.partitions = $2 then
    update hark.consumers k set next_partitions = null, barrier = null where k.name = $1;
  else
    update hark.consumers k set next_partitions = $2 where k.name = $1;
    perform hark.turn_partitions($1);
  end if;
  perform hark.request_look($1);
  perform hark.record_act('partitions', $1, null, format('from %s to %s', c.partitions, $2));
  return case when exists (select from hark.consumers k where k.name = $1 and k.next_partitions is not null)
    then 'pending' else 'done' end;
end
$$;
comment on function hark.repartition(text, integer) is
  'Changes the number of a consumer''s partitions: "done", or "pending" until its workers have read to a '
  'common point.';

-- Stores why partitions are halted. The others would wait for them if the number of partitions is being changed,
-- so the change is taken back. Returns the number that it was to be changed to, or null.
create or replace function hark.report_halts(
  consumer text, owner uuid, held integer[], epochs bigint[], reasons text[]
) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
begin
  select * into c from hark.consumers k where k.name = $1 for no key update;
  update hark.partitions s set halted = h.reason
  from unnest(held, epochs, reasons) h (partition, epoch, reason)
  where s.consumer = $1 and s.partition = h.partition and s.epoch = h.epoch and s.owner = $2;
  if not found or c.next_partitions is null or c.partitions = 1 then
    return null;
  end if;
  update hark.consumers k set next_partitions = null, barrier = null where k.name = $1;
  perform hark.request_look($1);
  return c.next_partitions;
end
$$;

-- The partitions that are halted, each with the notification that holds it up.
create or replace function hark.halted_of(consumer text) returns table (
  partition integer, reason text, id bigint, key text, attempts integer, last_error text, due_at timestamptz
)
language sql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
  select s.partition, s.halted, w.id, hark.sendable(w.key), w.attempts, w.last_error, w.due_at
  from hark.partitions s
  cross join lateral (
    select x.* from hark.waiting x where x.consumer = s.consumer and x.partition = s.partition
    order by x.attempts = 0, x.id limit 1
  ) w
  where s.consumer = $1 and s.halted is not null
  order by s.partition
$$;

-- Takes a change of partitions a step further if no living worker owns any of them.
create or replace function hark.turn_partitions(consumer text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  c hark.consumers;
  places bigint;
  newest hark.marks;
  here record;
  total bigint;
  highest bigint;
begin
  -- Not waited for: the session that has the row does this.
  select * into c from hark.consumers k where k.name = $1 and k.next_partitions is not null for no key update skip locked;
  if not found then
    return;
  end if;
  perform from hark.partitions s where s.consumer = $1 order by s.partition for update;
  if exists (
    select from hark.partitions s join hark.crew w on w.consumer = s.consumer and w.owner = s.owner
    where s.consumer = $1 and w.lease_until > clock_timestamp()
  ) then
    return;
  end if;
  select count(distinct (s.seen, s.target, s.last_id, s.after_id)) into places from hark.partitions s where s.consumer = $1;
  if places > 1 then
    if c.barrier is null then
      -- From here on no window reaches beyond the barrier. Old owners are fenced off, and each stored window ends at a
      -- mark that this later statement sees: a stored one, or a private one in a copy. The latest of them is the barrier. No
      -- mark is cut here: this transaction has a number. What it publishes comes after the barrier, as it was running when
      -- that mark was cut.
      update hark.partitions s set epoch = s.epoch + 1, owner = null where s.consumer = $1;
      select (x.m).* into newest
      from (
        select hark.newest_mark() as m
        union all
        select k.mark from hark.partitions s join hark.kept_marks k on k.number = s.seen or k.number = s.target
        where s.consumer = $1
      ) x
      order by (x.m).upper desc, (x.m).running, (x.m).number desc limit 1;
      perform hark.keep_marks(array[newest]);
      update hark.consumers k set barrier = newest.number where k.name = $1;
      return;
    end if;
    if exists (
      select from hark.partitions s where s.consumer = $1 and (s.target is not null or s.seen <> c.barrier)
    ) then
      return;
    end if;
  end if;
  -- They differ at most in where they began, and then only after a restore: what lies there counts as read by now.
  select s.seen, s.target, s.last_id, min(s.after_id) as after_id into strict here
  from hark.partitions s where s.consumer = $1 group by 1, 2, 3;
  select sum(s.handled), max(s.epoch) into total, highest from hark.partitions s where s.consumer = $1;
  delete from hark.partitions s where s.consumer = $1;
  insert into hark.partitions (consumer, partition, seen, target, last_id, after_id, epoch, handled, served_at)
  select $1, n, here.seen, here.target, here.last_id, here.after_id, highest + 1, case when n = 0 then total else 0 end, clock_timestamp()
  from generate_series(0, c.next_partitions - 1) n;
  update hark.waiting w set partition = hark.partition_of(w.key, w.id, c.next_partitions) where w.consumer = $1;
  update hark.done d set partition = hark.partition_of(l.key, l.id, c.next_partitions)
  from hark.log l where d.consumer = $1 and l.id = d.id;
  update hark.consumers k
  set partitions = c.next_partitions, next_partitions = null, barrier = null
  where k.name = $1;
  perform hark.request_look($1);
end
$$;
