// SPDX-License-Identifier: Apache-2.0
// For: npx eslint monailabel_app/viewers/ohif tests/ohif
const browser = [
  'AbortController', 'Blob', 'BroadcastChannel', 'FormData', 'TextDecoderStream', 'TextEncoder', 'URL',
  'URLSearchParams', 'clearTimeout', 'document', 'globalThis', 'requestAnimationFrame', 'setTimeout',
  'window',
];
const node = ['Blob', 'ReadableStream', 'Response', 'TextEncoder', 'URL'];
const globals = names => Object.fromEntries(names.map(name => [name, 'readonly']));
const rules = {
  'consistent-return': 'error',
  curly: ['error', 'multi-line'],
  eqeqeq: 'error',
  'no-eval': 'error',
  'no-implied-eval': 'error',
  'no-shadow': 'error',
  'no-undef': 'error',
  'no-unused-vars': 'error',
  'no-var': 'error',
  'prefer-const': 'error',
};

export default [
  {
    files: ['monailabel_app/viewers/ohif/static/*.js'],
    languageOptions: { ecmaVersion: 2023, sourceType: 'module', globals: globals(browser) },
    rules,
  },
  {
    files: ['monailabel_app/viewers/ohif/static/app-config.js'],
    languageOptions: { sourceType: 'script' },
  },
  {
    files: ['tests/ohif/*.js'],
    languageOptions: { ecmaVersion: 2023, sourceType: 'module', globals: globals(node) },
    rules,
  },
];
