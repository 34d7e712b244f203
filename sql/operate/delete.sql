-- Deleting notifications by hand, with all copies, and the record of it (hark.deletions).
--
-- Locks are taken as in seek.sql: consumers, their partitions, then waiting notifications, and the log last.

-- Deletes notifications from the log and from what consumers keep of them, whether they were read or not.
create or replace function hark.delete_ids(ids bigint[], out log bigint, out waiting bigint, out dead bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set enable_seqscan = off set jit = off
as $$
declare
  its_name text;
begin
  for its_name in select distinct w.consumer from hark.waiting w where w.id = any ($1) order by 1 loop
    perform hark.changed(its_name);
    perform from hark.partitions s where s.consumer = its_name order by s.partition for update;
  end loop;
  delete from hark.waiting w where w.id = any ($1);
  get diagnostics waiting = row_count;
  delete from hark.dead d using hark.consumers c where d.consumer = c.name and d.id = any ($1);
  get diagnostics dead = row_count;
  delete from hark.log l where l.id = any ($1);
  get diagnostics log = row_count;
end
$$;

-- Deletes what is not in the log by its own copy: delayed notifications, dead letters, and notifications that are
-- retried from the dead letters. Ids choose no delayed notification, whose number is not an id.
create or replace function hark.delete_copies(
  ids bigint[], channel text, key text, contains jsonb, search text, from_id bigint, to_id bigint,
  from_time timestamptz, to_time timestamptz, out delayed bigint, out waiting bigint, out dead bigint
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
declare
  its_name text;
  removed bigint;
begin
  waiting := 0; dead := 0; delayed := 0;
  -- First: what hark.deliver_due moves to the log during this deletion is found there.
  if $1 is null and $6 is null and $7 is null then
    with gone as (
      delete from hark.delayed d
      where ($2 is null or d.channel = $2) and ($3 is null or d.key = $3)
        and ($8 is null or d.created_at >= $8) and ($9 is null or d.created_at <= $9)
        and hark.has_content(d.payload, $4, $5)
      returning d.number
    ),
    freed as (
      delete from hark.dedupe k using gone g where k.delayed = g.number
    )
    select count(*) into delayed from gone;
  end if;
  -- A retry moves dead letters to hark.waiting, and a worker gives up what waits: neither while the consumer and its
  -- partitions are locked.
  for its_name in
    select c.name from hark.consumers c
    where exists (select from hark.dead d where d.consumer = c.name)
      or exists (select from hark.waiting w where w.consumer = c.name and w.channel is not null)
    order by c.name
  loop
    perform hark.changed(its_name);
    perform from hark.partitions s where s.consumer = its_name order by s.partition for update;
    delete from hark.waiting w
    where w.consumer = its_name and w.channel is not null and ($1 is null or w.id = any ($1))
      and ($2 is null or w.channel = $2) and ($3 is null or w.key = $3)
      and ($6 is null or w.id >= $6) and ($7 is null or w.id <= $7)
      and ($8 is null or w.created_at >= $8) and ($9 is null or w.created_at <= $9)
      and ($4 is null and $5 is null or w.payload is not null and hark.has_content(w.payload, $4, $5));
    get diagnostics removed = row_count;
    waiting := waiting + removed;
    delete from hark.dead d
    where d.consumer = its_name and ($1 is null or d.id = any ($1))
      and ($2 is null or d.channel = $2) and ($3 is null or d.key = $3)
      and ($6 is null or d.id >= $6) and ($7 is null or d.id <= $7)
      and ($8 is null or d.created_at >= $8) and ($9 is null or d.created_at <= $9)
      and ($4 is null and $5 is null or d.payload is not null and hark.has_content(d.payload, $4, $5));
    get diagnostics removed = row_count;
    dead := dead + removed;
  end loop;
end
$$;

-- Deletes notifications for good: from the log, with what waits, dead letters and delayed ones. It takes those that
-- match every condition; ids or a condition must be given. The first call records the role and the reason, and deletes
-- delayed notifications and copies. Each call looks at max_scanned notifications of the log. To go on, call it
-- again with the same conditions, and with the `deletion` and `next_id` that it returned as `continued` and `at_id`,
-- until next_id is null.
--
-- What is published after the first call began is not looked at. A transaction that has published before, and is still
-- open, may commit ids that were passed. So the deletion ends when all those have ended, and a whole look came after:
-- `open` says how many it waits for. Call it again after a pause then.
create or replace function hark.delete_notifications(
  reason text, ids bigint[] default null, channel text default null, key text default null,
  contains jsonb default null, search text default null, from_id bigint default null, to_id bigint default null,
  from_time timestamptz default null, to_time timestamptz default null, max_scanned integer default 20000,
  continued bigint default null, at_id bigint default null
) returns table (
  deletion bigint, next_id bigint, log bigint, waiting bigint, dead bigint, delayed bigint, open integer
)
language plpgsql volatile security definer rows 1 set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  given constant text[] := array_remove(array[
    case when $2 is not null then 'ids' end, case when $3 is not null then 'channel' end,
    case when $4 is not null then 'key' end, case when $5 is not null then 'contains' end,
    case when $6 is not null then 'search' end, case when $7 is not null or $9 is not null then 'from' end,
    case when $8 is not null or $10 is not null then 'to' end], null);
  made hark.deletions;
  copies record;
  gone record;
  first_id bigint := $13;
  last_id bigint;
  looked record;
  found_ids bigint[];
  publishers xid[];
begin
  perform hark.require_read_committed();
  if cardinality(given) = 0 or cardinality($2) = 0 then
    raise exception 'a deletion was not told which notifications to delete'
      using errcode = 'HK006', hint = 'Give ids, a channel, a key, or another condition.';
  end if;
  if cardinality($2) > 10000 then
    raise exception 'a deletion was given % ids', cardinality($2) using errcode = 'HK006', hint = 'Give at most 10000 ids.';
  end if;
  if $6 = '' then
    raise exception 'search is empty' using errcode = 'HK006', hint = 'Give a part of the payload''s text, or null.';
  end if;
  if $1 is null or char_length($1) not between 1 and 1000 then
    raise exception 'the reason for a deletion %', coalesce('has ' || char_length($1) || ' characters', 'is null')
      using errcode = 'HK006', hint = 'Say why, in 1 to 1000 characters, such as a ticket''s number.';
  end if;
  if $11 is null or $11 < 1 then
    raise exception 'max_scanned is %', coalesce($11::text, 'null') using errcode = 'HK006', hint = 'Give a number of at least 1.';
  end if;
  -- Before rows of the log, as hark.clean takes them in this order.
  lock table hark.consumers in row exclusive mode;
  log := 0; waiting := 0; dead := 0; delayed := 0; next_id := null; open := 0;
  if $12 is null then
    publishers := array(
      select unnest(hark.publishers())
      except select l.transactionid from pg_locks l where l.locktype = 'transactionid' and l.pid = pg_backend_pid()
    );
    select c.* into copies from hark.delete_copies($2, $3, $4, $5, $6, $7, $8, $9, $10) c;
    waiting := copies.waiting; dead := copies.dead; delayed := copies.delayed;
    insert into hark.deletions (role, login, reason, channel, choice, through_id, publishers, waiting, dead, delayed)
    values (hark.acting_role(), session_user, $1, $3, given, hark.last_drawn_id(), publishers, waiting, dead, delayed)
    returning * into made;
    first_id := 0;
    if publishers <> '{}' then
      -- Most end within milliseconds: one look is enough then.
      deletion := made.number; next_id := 0; open := cardinality(publishers);
      return next;
      return;
    end if;
  else
    select * into made from hark.deletions d where d.number = $12 for update;
    if not found or made.finished_at is not null or made.role <> hark.acting_role() or made.reason <> $1
      or made.choice <> given or made.channel is distinct from $3 or $13 is null
    then
      raise exception 'deletion % cannot be continued like this', $12
        using errcode = 'HK006', hint = 'Continue an unfinished deletion of this role with its reason, its conditions and its next_id.';
    end if;
    publishers := hark.publishers(made.publishers);
    if $13 = 0 and publishers = '{}' then
      update hark.deletions d set publishers = '{}' where d.number = made.number returning * into made;
    end if;
  end if;
  deletion := made.number;
  if $2 is not null then
    select array_agg(l.id) into found_ids from hark.log l
    where l.id = any ($2) and ($3 is null or l.channel = $3) and ($4 is null or l.key = $4)
      and ($7 is null or l.id >= $7) and ($8 is null or l.id <= $8)
      and ($9 is null or l.created_at >= $9) and ($10 is null or l.created_at <= $10)
      and hark.has_content(l.payload, $5, $6);
  else
    select i.first_id, i.last_id into first_id, last_id
    from hark.id_range(greatest(first_id, coalesce($7, 0)), least($8, made.through_id), $9, $10) i;
    select max(n.id) as through, array_agg(n.id) filter (where n.found) as ids into looked
    from (
      select s.id, ($3 is null or s.channel = $3) and ($4 is null or s.key = $4)
        and ($9 is null or s.created_at >= $9) and ($10 is null or s.created_at <= $10)
        and ($5 is null and $6 is null or hark.has_content(s.payload, $5, $6)) as found
      from (
        select l.*, sum(case when $5 is null and $6 is null then 0 else pg_column_size(l.payload) end)
          over (order by l.id rows between unbounded preceding and 1 preceding) as size_before
        from (
          select l.id, l.channel, l.key, l.payload, l.created_at from hark.log l
          where l.id >= first_id and l.id <= last_id order by l.id limit $11
        ) l
      ) s
      where coalesce(s.size_before, 0) < 33554432
    ) n;
    found_ids := looked.ids;
    next_id := case when looked.through < last_id then looked.through + 1 end;
  end if;
  if cardinality(found_ids) > 0 then
    select g.* into gone from hark.delete_ids(found_ids) g;
    log := gone.log; waiting := waiting + gone.waiting; dead := dead + gone.dead;
    update hark.deletions d set
      log = d.log + gone.log, waiting = d.waiting + gone.waiting, dead = d.dead + gone.dead
    where d.number = deletion;
  end if;
  if next_id is null and made.publishers <> '{}' then
    open := cardinality(publishers);
    next_id := case when open = 0 then 0 else made.through_id + 1 end;
  end if;
  if next_id is null then
    update hark.deletions d set finished_at = clock_timestamp() where d.number = made.number;
  end if;
  return next;
end
$$;
comment on function hark.delete_notifications is
  'Deletes notifications for good, with every copy, and records the role, the time and the reason.';

-- Deletions by hand, the newest first. To go on, give the last one's number as before_number.
create or replace function hark.deletions(max_rows integer default 100, before_number bigint default null)
returns setof hark.deletions
language sql stable security definer rows 100 set search_path = pg_catalog, pg_temp
as $$
  select d.* from hark.deletions d where $2 is null or d.number < $2 order by d.number desc limit least($1, 10000)
$$;
comment on function hark.deletions(integer, bigint) is 'Deletions by hand: by which role, when and why.';
