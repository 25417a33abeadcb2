import { createContext, type ReactNode, useContext, useEffect, useMemo, useState } from "react";

interface CommandLine {
  command: string | null;
  show: (command: string | null) => void;
}

const Context = createContext<CommandLine>({ command: null, show: () => undefined });

export function CommandLineProvider({ children }: { children: ReactNode }) {
  const [command, show] = useState<string | null>(null);
  const value = useMemo(() => ({ command, show }), [command]);
  return <Context value={value}>{children}</Context>;
}

/** What the screen says of itself; null where it leaves that to its place. */
export function useShownCommand(): string | null {
  return useContext(Context).command;
}

/** Show, at the foot of the page, the command that does what this screen does with what it shows now. */
export function useCommand(command: string): void {
  const { show } = useContext(Context);
  useEffect(() => {
    show(command);
    return () => show(null);
  }, [command, show]);
}

/** Return a word as a shell takes it. */
export function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
