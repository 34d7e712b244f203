-- Consumers with nothing unread hold back nothing, whether a worker serves them or not.

-- Moves partitions that no living worker serves past what is not theirs to read, as a worker would. Otherwise a
-- consumer that has not run for a week would hold back a week of other channels' notifications. A raised epoch fences
-- off a worker that was only thought to be dead. Looks at about `batch` notifications, in hark.clean, which keeps
-- registrations and seeks out. Cuts no mark: the newest one will do.
create or replace function hark.advance_idle(batch integer) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
declare
  newest constant hark.marks := hark.newest_mark();
  complete_through constant bigint := (select i.rebased_through from hark.install i);
  spare bigint := batch;
  p record;
  upto hark.marks;
  own_id bigint;
  through bigint;
  looked bigint;
begin
  for p in
    select s.consumer, s.partition, s.seen, s.target, s.last_id, s.after_id, (a.mark).snapshot as seen_snapshot,
      case when s.target is null then greatest(s.after_id, (a.mark).low) else s.last_id end as from_id,
      c.channels, c.filter, c.partitions
    from hark.partitions s
    join hark.consumers c on c.name = s.consumer
    join hark.kept_marks a on a.number = s.seen
    -- A worker may have read beyond the newest mark, to a private one.
    where (s.target is not null or newest.upper > (a.mark).upper or newest.upper = (a.mark).upper and newest.running < (a.mark).running)
      and c.next_partitions is null
      and not exists (
        select from hark.crew w where w.consumer = s.consumer and w.owner = s.owner and w.lease_until > clock_timestamp()
      )
    order by s.consumer, s.partition
    for update of s skip locked
  loop
    exit when spare <= 0;
    upto := newest;
    if p.target is not null then
      select (k.mark).* into strict upto from hark.kept_marks k where k.number = p.target;
    end if;
    select l.id into own_id
    from (
      select n.* from hark.log n where n.id > p.from_id and n.id <= upto.max_id order by n.id limit spare
    ) l
    where l.channel = any (p.channels) and hark.partition_of(l.key, l.id, p.partitions) = p.partition
      and (l.id <= complete_through or pg_visible_in_snapshot(l.xid, upto.snapshot))
      and not hark.passed(l.id, l.xid, p.after_id, p.seen = 0, p.seen_snapshot, null, 0, complete_through)
      and (p.filter is null or hark.may_match(p.filter, l.key, l.payload, l.headers))
    order by l.id limit 1;
    select max(l.id), count(*) into through, looked
    from (
      select n.id from hark.log n
      where n.id > p.from_id and n.id <= coalesce(own_id - 1, upto.max_id) order by n.id limit spare
    ) l;
    if p.target is null and (own_id is null and looked < spare or through > p.from_id) then
      perform hark.keep_marks(array[newest]);
    end if;
    if own_id is null and looked < spare then
      update hark.partitions s set seen = upto.number, target = null, last_id = 0, epoch = s.epoch + 1
      where s.consumer = p.consumer and s.partition = p.partition;
    elsif through > p.from_id then
      update hark.partitions s set target = upto.number, last_id = through, epoch = s.epoch + 1
      where s.consumer = p.consumer and s.partition = p.partition;
    end if;
    spare := spare - looked - 1;
  end loop;
end
$$;

-- Asks the workers of consumers that have kept notifications up to an id to store their positions now: a worker that
-- reads nothing of its own does so once a minute.
create or replace function hark.ask_to_store(through bigint) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform hark.request_look(c.name) from hark.consumers c
  where exists (
    select from hark.places p join hark.crew w on w.consumer = p.consumer and w.owner = p.owner
    where p.consumer = c.name and p.target is null and p.low < $1 and w.lease_until > clock_timestamp()
  );
end
$$;
