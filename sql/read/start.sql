-- Where readers begin, and going on after a restore.

-- Where a reader begins: the mark that counts as seen, and the id up to which nothing is its business.
--   now        rows not yet visible, including those that a running transaction commits later
--   beginning  everything in the log
--   id         that id and above
--   time       at least everything committed since that time: a mark's time is read after its snapshot
-- A start now cuts a mark, so it is refused in a transaction that has written, and on a standby.
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

-- A mark that a position outside of the database names. It has all of its content if that was short enough. If not, its
-- snapshot is null, and its row is looked for. If it is neither here nor has survived, `here` is the last one before it.
create or replace function hark.named_mark(m hark.marks, out here hark.marks, out is_same boolean)
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  is_same := true;
  if m.snapshot is not null and hark.survives(m) then
    here := m;
    return;
  end if;
  select k.* into here from hark.marks k
  where k.number = m.number and k.life = m.life and k.upper = m.upper and k.running = m.running;
  if here.number is null then
    select (k.mark).* into here from hark.kept_marks k
    where k.number = m.number and (k.mark).life = m.life and (k.mark).upper = m.upper and (k.mark).running = m.running
      and hark.survives(k.mark);
  end if;
  if here.number is null then
    here := hark.mark_before(m);
    is_same := false;
  end if;
end
$$;

-- Where a reader goes on from a position that it was given and that nothing in the database holds: up to `seen` all is
-- read, and of the window up to `target` the ids up to `last_id`. Marks may have been thinned or lost since:
--   - Without `seen`, the window begins at the last mark before it. Ids up to last_id stay read: they are in the
--     wider window too. Others may come again.
--   - Without `target`, the window is read again. Between windows, `seen` is all there is.
--   - After a restore to another cluster no mark means anything. All ids up to the least that was unread are read.
-- `repeats` says that something may come again. `gap` is the highest id that cleaning has removed, if it lies above the
-- least id that was unread: the reader may have missed notifications up to there.
create or replace function hark.resume_position(
  install text, given_seen hark.marks, given_target hark.marks, given_id bigint, given_after bigint,
  out seen hark.marks, out target hark.marks, out last_id bigint, out after_id bigint, out repeats boolean, out gap bigint
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  unread_above bigint;
  named record;
begin
  if not exists (select from hark.install i where starts_with(i.id::text, $1)) then
    raise exception 'this position is of the log of another database'
      using errcode = 'HK006', hint = 'Give a position of this database, or start from "beginning" or "now".';
  end if;
  if pg_is_in_recovery() then
    perform hark.refuse_ahead(given_seen), hark.refuse_ahead(given_target);
  elsif exists (
    select from hark.incarnation i
    where given_target.life = i.id and given_target.upper > pg_snapshot_xmax(pg_current_snapshot())
      or given_seen.life = i.id and given_seen.upper > pg_snapshot_xmax(pg_current_snapshot())
  ) then
    raise exception 'this position lies ahead of the log'
      using errcode = 'HK006', hint = 'Give a position as a notification has it.';
  end if;
  after_id := given_after;
  repeats := false;
  named := hark.named_mark(given_seen);
  seen := named.here;
  -- All that lies at or below is read, or began before this reader. A mark that is named, and is not here, does not say.
  unread_above := case when given_target.number is null then given_seen.low
    when given_target.low is not null then least(given_id, given_target.low) end;
  if not named.is_same then
    repeats := true;
    if seen.number = 0 and unread_above is not null then
      after_id := greatest(after_id, least(unread_above, (select i.rebased_through from hark.install i)));
    end if;
  end if;
  if given_target.number is not null then
    named := hark.named_mark(given_target);
    if named.is_same then
      target := named.here;
      last_id := given_id;
      unread_above := least(given_id, target.low);
    else
      repeats := true;
    end if;
  end if;
  if given_seen.number > 0 or given_target.number is not null then
    select u.cleaned_through into gap from hark.upkeep u
    where u.cleaned_through > greatest(given_after, coalesce(unread_above, (target).low, (seen).low, 0));
  end if;
end
$$;
comment on function hark.resume_position(text, hark.marks, hark.marks, bigint, bigint) is
  'Where a reader goes on from a position outside of the database, as notification.position has it.';

-- The first characters of the installation's id, which positions begin with, and the highest id that cleaning has removed.
create or replace function hark.log_facts(out install text, out cleaned_through bigint)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  select left(i.id::text, 8), u.cleaned_through into install, cleaned_through from hark.install i, hark.upkeep u;
end
$$;
comment on function hark.log_facts() is 'What readers compare their pages and positions with.';

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
    union all
    (select (k.mark).upper from hark.kept_marks k)
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
  update hark.schedules s set owner_role = to_regrole(quote_ident(s.owner));
  update hark.delayed d set owner_role = to_regrole(quote_ident(d.owner));
  -- The barrier means nothing here either: a change of partitions begins again.
  update hark.consumers c set barrier = null;
  delete from hark.processes;
  update hark.partitions p set
    seen = 0, target = null, last_id = 0,
    after_id = (select f.low from hark.places f where f.consumer = p.consumer and f.partition = p.partition),
    epoch = p.epoch + 1, owner = null;
  -- What is to be handled once more comes twice rather than not at all.
  update hark.replay_positions p set seen = 0, target = null, last_id = 0, after_id = through;
  delete from hark.kept_marks k where k.number <> 0;
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
