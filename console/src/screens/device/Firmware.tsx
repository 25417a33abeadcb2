import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { firmwareQuery } from "../../api/queries";
import type { FirmwareView } from "../../api/types";
import { Ago } from "../../design/Ago";
import { State } from "../../design/marks";
import { Await, Empty, Facts, Sheet } from "../../design/parts";

export default function FirmwarePart({ id }: { id: string }) {
  const firmware = useQuery(firmwareQuery(id));
  return (
    <Sheet title="Firmware">
      <Await query={firmware} what="its firmware" permission="release.read">
        {(found) => <Slots firmware={found} />}
      </Await>
    </Sheet>
  );
}

function Slots({ firmware }: { firmware: FirmwareView }) {
  if (firmware.current === null && firmware.active_slot === null) {
    return <Empty title="It has reported no firmware yet" />;
  }
  return <Facts of={[["Runs", firmware.current], ["Wanted", firmware.wanted], ["Reported", <Ago key="r" at={firmware.reported_at} />], ["Release", firmware.current && <Link key="l" to="/releases/$model/$version" params={{ model: firmware.model, version: firmware.current }}>open</Link>], ["Trial", firmware.trial ? <State key="t" tone="care" shape="half">on trial</State> : "no"]]} />;
}
