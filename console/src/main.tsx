import { MantineProvider } from "@mantine/core";
import { MutationCache, QueryCache, QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { isSignedOut, Problem } from "./api/problem";
import { PLACES } from "./app/places";
import { makeRouter } from "./app/router";
import { theme } from "./app/theme";
import "./app/styles";

// Whoever's session ends while they work is sent to sign in, and back to where they were.
function onError(error: unknown): void {
  if (!isSignedOut(error) || client.getQueryData(["me"]) == null) return;
  client.setQueryData(["me"], null);
  void router.invalidate();
}

const client: QueryClient = new QueryClient({
  queryCache: new QueryCache({ onError }),
  mutationCache: new MutationCache({ onError }),
  defaultOptions: {
    queries: {
      staleTime: 5_000,
      // Only a platform that did not answer may answer differently when asked again.
      retry: (count, error) => count < 2 && error instanceof Problem && (error.status === 0 || error.status >= 500),
      refetchOnWindowFocus: false,
    },
  },
});
const router = makeRouter(client, PLACES);

const place = document.getElementById("root");
if (place === null) throw new Error("index.html: expected an element #root, found none");
createRoot(place).render(
  <StrictMode>
    <MantineProvider theme={theme} defaultColorScheme="auto" withCssVariables={false} withGlobalClasses={false}>
      <QueryClientProvider client={client}>
        <RouterProvider router={router} />
      </QueryClientProvider>
    </MantineProvider>
  </StrictMode>,
);
