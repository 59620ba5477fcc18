// node bundle.cjs FOLDER: write page.js and page.css, which draw a dashboard, to FOLDER. NODE_PATH is where Grafana's
// libraries are.

const { buildSync } = require('esbuild');

const modules = process.env.NODE_PATH;

buildSync({
  entryPoints: { page: `${__dirname}/dashboard.jsx` },
  outdir: process.argv[2],
  bundle: true,
  jsx: 'automatic',
  mainFields: ['browser', 'main', 'module'],
  nodePaths: [modules],
  // Their other form, ES modules, imports CommonJS as Node does, and gets an object where a component is.
  alias: Object.fromEntries(['data', 'ui'].map((name) => [`@grafana/${name}`, `${modules}/@grafana/${name}/dist/cjs/index.cjs`])),
  loader: { '.ttf': 'empty', '.svg': 'dataurl' },
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  logLevel: 'error',
});
