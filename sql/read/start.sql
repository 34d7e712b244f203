-- Where readers begin, and going on after a restore.

-- Where a reader begins: the mark that counts as seen, and the id up to which nothing is its business.
--   now        rows not yet visible, including those that a running transaction commits later
--   beginning  everything in the log
--   id         that id and above
--   time       at least everything committed since that time: a mark's time is read after its snapshot
-- A start now cuts a mark, so it is refused in a transaction that has written.
create or replace function hark.start_position(
  start_kind text, start_id bigint, start_time timestamptz, out seen hark.marks, out after_id bigint
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  drawn bigint;
begin
  after_id := 0;
  if start_kind = 'now' then
    seen := hark.new_mark(false);
    return;
  elsif start_kind = 'beginning' then
    null;
  elsif start_kind = 'id' then
    drawn := hark.last_drawn_id();
    if start_id is null or start_id < 1 or start_id > drawn + 1 then
      raise exception 'cannot start at id %: the log has drawn ids up to %', start_id, drawn
        using errcode = 'HK006', hint = 'Give an id of the log, or start from "now".';
    end if;
    after_id := start_id - 1;
  elsif start_kind = 'time' then
    if start_time is null then
      raise exception 'a start by time needs a time' using errcode = 'HK006', hint = 'Give a timestamp.';
    end if;
    select m.* into strict seen from hark.marks m where m.taken_at <= start_time
    order by m.upper desc, m.running, m.number desc limit 1;
    return;
  else
    raise exception 'unknown start "%"', start_kind
      using errcode = 'HK006', hint = 'Start from "now", "beginning", an id or a time.';
  end if;
  select m.* into strict seen from hark.marks m where m.number = 0;
end
$$;

-- The id above which a channel's notifications are replayed, so that it starts there. For a transaction that has written.
create or replace function hark.start_id_of(kind text, id bigint, "time" timestamptz) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if kind = 'beginning' or kind = 'id' and id >= 1 or kind = 'time' and "time" is not null then
    return (select greatest((p.seen).low, p.after_id)
      from hark.start_position(kind, least(id, hark.last_drawn_id() + 1), "time") p);
  end if;
  raise exception 'a channel cannot start from % (id %, time %)', kind, id, "time"
    using errcode = 'HK006', hint = 'Give "beginning", an id, a time, or "now".';
end
$$;

-- Makes the log readable after a dump and restore into another cluster. That server gives out
-- transaction numbers that the log already holds, so every mark is meaningless. The server's
-- identity reveals this.
--
-- Publishing stops for a moment. Everything stored then counts as complete, and every position goes back to a
-- place that is certain: repeats rather than losses. pg_upgrade keeps the numbers and needs none of it.
--
-- If this server's numbers have passed all stored ones by now, that proves nothing. Rows may have been
-- published here earlier, before the first reader came. Their numbers are ones that the marks count
-- as seen.
create or replace function hark.rebase() returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  here bigint;
  highest xid8;
  own xid8;
  upgraded boolean;
  through bigint;
begin
  select c.system_identifier into here from pg_control_system() c;
  if exists (select from hark.install i where i.system_identifier = here) or pg_is_in_recovery() then
    return false;
  end if;
  lock table hark.log in share row exclusive mode;
  if exists (select from hark.install i where i.system_identifier = here) then
    return false;
  end if;
  own := pg_current_xact_id();
  select x.xid into highest from (
    (select l.xid from hark.log l order by l.xid desc limit 1)
    union all
    (select m.upper from hark.marks m)
  ) x order by x.xid desc limit 1;
  select i.written_by = i.xmin into upgraded from hark.install i;
  if upgraded and (highest is null or highest < own) then
    update hark.install set system_identifier = here;
    update hark.install i set written_by = i.xmin;
    return false;
  end if;
  through := hark.last_drawn_id();
  update hark.install set system_identifier = here, rebased_through = through;
  update hark.install i set written_by = i.xmin;
  delete from hark.incarnation;
  -- The barrier means nothing here either: a change of partitions begins again.
  update hark.consumers c set barrier = null;
  delete from hark.processes;
  update hark.partitions p set
    seen = 0, target = null, last_id = 0,
    after_id = (select f.low from hark.places f where f.consumer = p.consumer and f.partition = p.partition),
    epoch = p.epoch + 1, owner = null;
  -- What is to be handled once more comes twice rather than not at all.
  update hark.replay_positions p set seen = 0, target = null, last_id = 0, after_id = through;
  delete from hark.kept_marks k where k.number > 0;
  delete from hark.marks m where m.number > 0;
  -- The first mark of the new life: its snapshot sees nothing, and all rows up to `through` count as complete.
  insert into hark.marks values (
    nextval('hark.mark_numbers'), hark.incarnation(), clock_timestamp(), '1:1:', '1', 0, through, through, through, '{}', '{}',
    own, '-infinity'
  );
  return true;
end
$$;
comment on function hark.rebase() is
  'Makes the log readable on a server it was restored to. Each reader calls it as it starts.';
