import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";

import type { Device } from "../../api/types";
import { Ago } from "../../design/Ago";
import { Severity } from "../../design/marks";
import { Await, Empty, Sheet, TableFrame } from "../../design/parts";
import { eventsQuery } from "./queries";

const SHOWN = 300;

export default function History({ device }: { device: Device }): ReactNode {
  const events = useQuery(eventsQuery(device.id));
  return (
    <Sheet title="What happened" aside={<span className="soft small">newest first, live</span>} bare>
      <Await query={events} what="its history" permission="event.read">
        {(list) =>
          list.length === 0 ? (
            <Empty title="Nothing happened yet" />
          ) : (
            <TableFrame>
              <table>
                <thead>
                  <tr>
                    <th scope="col">When</th>
                    <th scope="col">Severity</th>
                    <th scope="col">What</th>
                    <th scope="col">Kind</th>
                  </tr>
                </thead>
                <tbody>
                  {list
                    .slice(-SHOWN)
                    .reverse()
                    .map((event) => (
                      <tr key={event.id}>
                        <td className="soft">
                          <Ago at={event.time} />
                        </td>
                        <td>
                          <Severity severity={event.severity} />
                        </td>
                        <td>{event.message}</td>
                        <td className="mono soft">{event.kind}</td>
                      </tr>
                    ))}
                </tbody>
              </table>
            </TableFrame>
          )
        }
      </Await>
    </Sheet>
  );
}
