import { Button, Modal } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";

import { post } from "../../api/client";
import { ProblemNotice, Sheet } from "../../design/parts";
import { RecoveryCodes } from "../../doors/RecoveryCodes";
import { useMe } from "../../session/me";

export function NewRecoveryCodes() {
  const { factors } = useMe();
  const client = useQueryClient();
  const make = useMutation({
    mutationFn: () => post("/me/recovery-codes"),
    onSuccess: () => client.invalidateQueries({ queryKey: ["me"] }),
  });
  return (
    <Sheet title="Recovery codes">
      <div className="stack">
        {make.isError && <ProblemNotice error={make.error} />}
        <p>{factors.recovery_codes_left} of 10 are left. New ones replace them all.</p>
        <div className="row">
          <Button variant="default" loading={make.isPending} onClick={() => make.mutate()}>
            Make new codes
          </Button>
        </div>
      </div>
      <Modal opened={make.data !== undefined} onClose={() => make.reset()} title="Keep your new codes">
        {make.data !== undefined && <RecoveryCodes codes={make.data.recovery_codes} onKept={() => make.reset()} />}
      </Modal>
    </Sheet>
  );
}
