import { createContext, type ReactNode, useContext, useEffect, useMemo, useState } from "react";

interface CommandLine {
  command: string;
  show: (command: string) => void;
}

const Context = createContext<CommandLine>({ command: "fleetward --help", show: () => undefined });

export function CommandLineProvider({ children }: { children: ReactNode }) {
  const [command, show] = useState("fleetward --help");
  const value = useMemo(() => ({ command, show }), [command]);
  return <Context value={value}>{children}</Context>;
}

export function useShownCommand(): string {
  return useContext(Context).command;
}

/** Show, at the foot of the page, the command that does what this screen does. */
export function useCommand(command: string): void {
  const { show } = useContext(Context);
  useEffect(() => show(command), [command, show]);
}

/** Return a word as a shell takes it. */
export function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
