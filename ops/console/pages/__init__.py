"""The console's pages, a module each: it reads the store and renders, or takes a form and acts."""
