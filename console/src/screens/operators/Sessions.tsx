import { Button } from "@mantine/core";
import { useMutation, useQueryClient, type UseQueryResult } from "@tanstack/react-query";

import type { Session } from "../../api/types";
import { Ago } from "../../design/Ago";
import { Await, Empty, ProblemNotice, Sheet } from "../../design/parts";

/** Somebody's open sessions, to end one that should not be. */
export function Sessions({
  query,
  queryKey,
  end,
}: {
  query: UseQueryResult<Session[]>;
  queryKey: string[];
  end: ((id: string) => Promise<unknown>) | null;
}) {
  const client = useQueryClient();
  const ended = useMutation({
    mutationFn: async (id: string) => end?.(id),
    onSuccess: () => client.invalidateQueries({ queryKey }),
  });
  return (
    <Sheet title="Sessions" bare>
      {ended.isError && <ProblemNotice error={ended.error} />}
      <Await query={query} what="sessions" permission="operator.read">
        {(list) =>
          list.length === 0 ? (
            <Empty title="No open session" />
          ) : (
            <table>
              <thead>
                <tr>
                  <th scope="col">From</th>
                  <th scope="col">Last seen</th>
                  <th scope="col">
                    <span className="visually-hidden">End</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {list.map((one) => (
                  <tr key={one.id}>
                    <td className="wrap-any">
                      <span className="mono">{one.address}</span>
                      <div className="soft small">{one.user_agent}</div>
                    </td>
                    <td className="soft">
                      <Ago at={one.last_seen_at} />
                    </td>
                    <td>
                      {one.current ? (
                        "this one"
                      ) : (
                        end !== null && (
                          <Button variant="default" onClick={() => ended.mutate(one.id)} aria-label={`End the session from ${one.address}`}>
                            End
                          </Button>
                        )
                      )}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          )
        }
      </Await>
    </Sheet>
  );
}
