-- Positions: what they have passed, which marks they may rest on, and which marks no reader needs any more.

-- Whether a position has passed a row. It has no SET clause, so PostgreSQL inlines it into the calling query (ten
-- times as fast). It takes only what it compares: see hark.places.
create or replace function hark.passed(
  id bigint, xid xid8, after_id bigint, seen_nothing boolean, seen pg_snapshot, target pg_snapshot, last_id bigint,
  complete_through bigint
) returns boolean
language sql immutable
as $$
  select $1 operator(pg_catalog.<=) $3
    or not $4 and $1 operator(pg_catalog.<=) $8
    or pg_catalog.pg_visible_in_snapshot($2, $5)
    or $6 is not null and $1 operator(pg_catalog.<=) $7
      and ($1 operator(pg_catalog.<=) $8 or pg_catalog.pg_visible_in_snapshot($2, $6))
$$;

-- Whether a reader may go on from a mark that it remembers. A crash and a fail-over may take marks, and the
-- transaction numbers and ids that they speak of are then given out again, alike to the bit. So a mark of another
-- life counts only if one that is at least as late has survived: then all that it saw has. So has all that a mark saw
-- of which a position's copy has survived, stored or private: see the head of marks.sql.
--
-- On a standby the same rows say that all that the mark sees is there (standby.sql). There no life is taken on trust: one
-- that goes on at the primary has marks that are not here yet.
create or replace function hark.survives(m hark.marks) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if m.number = 0 then
    return true;
  elsif not pg_is_in_recovery() then
    -- A statement of its own: a standby cannot read this table.
    if exists (select from hark.incarnation i where i.id = m.life) then
      return true;
    end if;
  end if;
  return exists (
      select from hark.marks k
      where k.life = m.life and (k.upper > m.upper or k.upper = m.upper and k.running <= m.running)
    )
    or exists (select from hark.kept_marks c where c.number = m.number and (c.mark).life = m.life);
end
$$;

create or replace function hark.raise_lost() returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'the server has been through a crash or a fail-over since this mark was cut'
    using errcode = 'HK004', hint = 'Load the stored position, or start again from hark.resume_mark.';
end
$$;

-- Where a reader without a stored position goes on if its mark has not survived: at the last mark of that life, or
-- at the last of those before it. What was read since comes again.
create or replace function hark.resume_mark(m hark.marks) returns hark.marks
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return case when hark.survives(m) then m else hark.mark_before(m) end;
end
$$;

-- The last stored mark of a mark's life that is not later than it, or the last of those before that life.
create or replace function hark.mark_before(m hark.marks) returns hark.marks
language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  now_life uuid;
  here hark.marks;
begin
  select k.* into here from hark.marks k
  where k.life = m.life and (k.upper < m.upper or k.upper = m.upper and k.running >= m.running)
  order by k.upper desc, k.running, k.number desc limit 1;
  if not found then
    now_life := hark.life();
    select k.* into strict here from hark.marks k
    where k.taken_at <= m.taken_at and k.life is distinct from now_life
    order by k.upper desc, k.running, k.number desc limit 1;
  end if;
  return here;
end
$$;

-- Keeps copies of marks, so that a position may refer to them, whether or not the chain still has them. In the order
-- of their numbers: two sessions that keep the same two marks would otherwise wait for each other.
create or replace function hark.keep_marks(marks hark.marks[]) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  m hark.marks;
  kept hark.marks;
begin
  for m in select (k).* from unnest(marks) k order by (k).number loop
    if not hark.survives(m) then
      perform hark.raise_lost();
    end if;
    loop
      insert into hark.kept_marks values (m.number, m) on conflict do nothing;
      -- Locked against hark.thin_marks, as the foreign key would do in a moment.
      select (k.mark).* into kept from hark.kept_marks k where k.number = m.number for key share;
      exit when found;
    end loop;
    -- Numbers that a crash took are given out again. Times say nothing about what a reader has to read. Bit by bit, as
    -- snapshots are not compared otherwise.
    kept.taken_at := m.taken_at;
    kept.looked_at := m.looked_at;
    if not kept *= m then
      perform hark.raise_lost();
    end if;
  end loop;
end
$$;

-- Removes marks that are of no use to a start at a time: all of the last minute stay, then one a second for an
-- hour, then one a minute. Marks from before the first notification of the log all lead to it. The newest ten and
-- the last one of each life stay. Readers hold marks by content, so they
-- lose nothing. Also removes the copies that no position refers to. Returns how many it removed of both. It looks once in
-- 50 seconds. It removes 10,000 marks and 1,000 copies at most, as foreign keys are looked up for each copy, and the
-- session that calls it does not read at the same time. If more is left, it looks again 2 seconds later. If the server's
-- clock went back, it looks at once.
create or replace function hark.thin_marks(pause interval default '50 seconds') returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
declare
  first_id bigint;
  copies bigint := 0;
  removed bigint;
begin
  perform from hark.upkeep u where u.thinned_at not between clock_timestamp() - pause and clock_timestamp() for update skip locked;
  if not found then
    return 0;
  end if;
  update hark.upkeep set thinned_at = clock_timestamp();
  begin
    delete from hark.kept_marks k using (
      select x.number from hark.kept_marks x
      where x.number not in (
        select 0::bigint
        union select p.seen from hark.partitions p
        union select p.target from hark.partitions p where p.target is not null
        union select r.seen from hark.replay_positions r
        union select r.target from hark.replay_positions r where r.target is not null
        union select c.barrier from hark.consumers c where c.barrier is not null
      )
      limit 1000 for update skip locked
    ) gone
    where k.number = gone.number;
    get diagnostics copies = row_count;
  exception when foreign_key_violation then
    null; -- a position has come to refer to one of them: they stay until the next time
  end;
  select coalesce((select l.id from hark.log l order by l.id limit 1), u.cleaned_through + 1) into first_id from hark.upkeep u;
  removed := hark.remove_marks(array(
    select m.number
    from (
      select m.number, m.taken_at, m.max_id,
        lag(date_trunc(case when m.taken_at > clock_timestamp() - interval '1 hour' then 'second' else 'minute' end, m.taken_at))
          over (order by m.upper, m.running desc, m.number) as before,
        date_trunc(case when m.taken_at > clock_timestamp() - interval '1 hour' then 'second' else 'minute' end, m.taken_at) as at
      from hark.marks m
    ) m
    where (m.before = m.at or m.max_id < first_id) and m.taken_at < clock_timestamp() - interval '1 minute'
    limit 10000
  ));
  if copies = 1000 or removed > 9000 then
    update hark.upkeep set thinned_at = clock_timestamp() - pause + interval '2 seconds';
  end if;
  return copies + removed;
end
$$;

-- Removes marks from the chain, except the ones that are needed: see hark.thin_marks.
create or replace function hark.remove_marks(numbers bigint[]) returns bigint
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp set jit = off
as $$
declare
  removed bigint;
begin
  delete from hark.marks m
  where m.number = any (numbers) and m.number not in (
    select 0::bigint
    union select x.number
    from (select n.number from hark.marks n order by n.upper desc, n.running, n.number desc limit 10) x
    union select y.number
    from (select distinct on (n.life) n.number from hark.marks n order by n.life, n.upper desc, n.running, n.number desc) y
  );
  get diagnostics removed = row_count;
  return removed;
end
$$;
