/**
 * A page of a window as rows, for tests that read with SQL.
 *
 * @module
 */

/**
 * A subquery that gives the rows of one call of `hark.page`: a row a notification, then a row with a null
 * id that carries the last id read, whether the window ends there, and how many ids it spans.
 *
 * @param args the arguments of `hark.page` as SQL, up to `held`
 */
export function pageRows(args: string): string {
  return `(
    with g as materialized (select * from hark.page(${args}))
    select i.id::bigint as id, g.channel_list::json ->> i.id as channel, i.key,
      nullif(i.payload, '')::jsonb as payload, nullif(i.headers, '')::jsonb as headers,
      '2000-01-01Z'::timestamptz
        + ('x' || substr(g.times, 16 * i.place::integer - 15, 16))::bit(64)::bigint * interval '1 microsecond'
        as created_at,
      coalesce(substr(g.replays, i.place::integer, 1), '1') = '1' as is_replay,
      coalesce(i.partition::integer, 0) as partition,
      null::bigint as last_id, null::boolean as window_end, null::bigint as window_span
    from g, rows from (
      string_to_table(g.ids, ','), json_array_elements_text(g.keys::json),
      string_to_table(g.payloads, E'\\n'), string_to_table(g.header_list, E'\\n'),
      string_to_table(g.partition_list, ',')
    ) with ordinality i (id, key, payload, headers, partition, place)
    union all
    select null, null, null, null, null, null, null, null, g.last_id, g.window_end, g.window_span from g
  )`;
}
