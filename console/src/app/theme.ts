import {
  createTheme,
  defaultVariantColorsResolver,
  type MantineColorsTuple,
  type VariantColorsResolver,
} from "@mantine/core";

const shades = (name: string): MantineColorsTuple =>
  Array.from({ length: 10 }, () => `var(--${name})`) as unknown as MantineColorsTuple;

/** Text on a filled button: our accent is dark in the light scheme and light in the dark one. */
const variantColorResolver: VariantColorsResolver = (input) => {
  const found = defaultVariantColorsResolver(input);
  return input.variant === "filled" ? { ...found, color: "var(--on-accent)" } : found;
};

/** Mantine's components in our palette; the colours themselves stand in design/tokens.css. */
export const theme = createTheme({
  fontFamily: "var(--font)",
  fontFamilyMonospace: "var(--mono)",
  primaryColor: "chart",
  colors: { chart: shades("accent"), danger: shades("bad") },
  variantColorResolver,
  defaultRadius: "3px",
  respectReducedMotion: true,
  components: {
    Button: { defaultProps: { size: "xs" } },
    TextInput: { defaultProps: { size: "sm" } },
    PasswordInput: { defaultProps: { size: "sm" } },
    Select: { defaultProps: { size: "sm", comboboxProps: { transitionProps: { duration: 0 } } } },
    Textarea: { defaultProps: { size: "sm" } },
    // Scroll locking writes a <style> element, which the page's policy forbids.
    Modal: {
      defaultProps: {
        lockScroll: false,
        centered: true,
        transitionProps: { duration: 0 },
        closeButtonProps: { "aria-label": "Close" },
      },
    },
    // Its <header> would count as a banner of the page.
    ModalHeader: { defaultProps: { role: "none" } },
    Menu: { defaultProps: { transitionProps: { duration: 0 }, position: "bottom-end" } },
  },
});
