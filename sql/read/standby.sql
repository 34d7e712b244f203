-- Reading from a standby.
--
-- A standby cannot cut: its snapshots do not list the transactions that run on the primary. It reads between marks that
-- were stored on the primary. Where a mark's row is visible, all that the mark sees is visible too. The primary wrote each
-- of these commits into the WAL before the mark, and a standby replays one stream. That also holds for a private mark, if
-- a stored one that is at least as late is visible.
--
-- A standby lags. So a mark that is missing there is most often not here yet, which is an error of its own (HK009). It is
-- lost only if marks of a later life are here and none of its own that is at least as late.
--
-- Nothing on this path reads an unlogged table, which a standby refuses, or writes.

-- The life that goes on: the server's incarnation; on a standby, the newest mark's. Null before the first mark of a life.
create or replace function hark.life() returns uuid
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if pg_is_in_recovery() then
    return (hark.newest_mark()).life;
  end if;
  return (select i.id from hark.incarnation i);
end
$$;

-- Whether a mark is one that this standby has not replayed yet. Lives sort in their order.
create or replace function hark.is_ahead(m hark.marks) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
declare
  newest hark.marks := hark.newest_mark();
begin
  return pg_is_in_recovery() and m.number <> 0 and (m.life > newest.life or m.life = newest.life
    and (m.upper > newest.upper or m.upper = newest.upper and m.running < newest.running));
end
$$;

-- Refuses a mark that this standby has not replayed yet.
create or replace function hark.refuse_ahead(m hark.marks) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if hark.is_ahead(m) and not hark.survives(m) then
    raise exception 'this standby has not replayed as far as that position'
      using errcode = 'HK009', hint = 'Wait until it has, or read from the primary.';
  end if;
end
$$;

-- Refuses marks between which a page would lack rows.
create or replace function hark.require_marks(seen hark.marks, target hark.marks) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if not (hark.survives(seen) and hark.survives(target)) then
    perform hark.refuse_ahead(seen), hark.refuse_ahead(target);
    perform hark.raise_lost();
  end if;
end
$$;

-- How far this server may be read without asking the primary.
--   mark      the newest mark
--   standby   whether the server is a standby
--   has_new   whether something may be visible here that the mark does not see. Then it is time to cut one on the primary.
--   rebased   whether hark.rebase() has nothing to do
--   lag_ms    for how long nothing was replayed, in milliseconds; 0 if all that was received has been replayed
--
-- The mark is read first. What the later statements find is then at least what was visible with it. Unlike hark.new_mark,
-- this looks for rows and not at the sequence, whose value on a standby may be up to 32 ahead. A row above max_id that is
-- visible is something new. A transaction that has drawn a lower id and may still commit is a straggler of the mark, or
-- the mark is not settled.
create or replace function hark.look_here(
  out mark hark.marks, out standby boolean, out has_new boolean, out rebased boolean, out lag_ms double precision
)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
begin
  standby := pg_is_in_recovery();
  select i.system_identifier = c.system_identifier into rebased from hark.install i, pg_control_system() c;
  mark := hark.newest_mark();
  has_new := mark.floor < mark.max_id
    or exists (select from hark.log l where l.id > mark.max_id)
    or mark.low < mark.max_id and exists (
      select from unnest(mark.stragglers, mark.lows) t (xid, low)
      where t.low < mark.max_id and pg_xact_status(t.xid) is distinct from 'in progress'
    );
  lag_ms := case
    when not standby or pg_last_xact_replay_timestamp() is null then 0
    when pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn() and exists (select from pg_stat_wal_receiver) then 0
    else greatest(0, extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)
  end;
end
$$;
comment on function hark.look_here() is
  'How far this server can be read without asking the primary: the newest mark, and whether it says all that is visible.';
